"""Alerts and dashboards as the real promtool reads them: they fire when they should, and are PromQL."""

import pathlib
import subprocess

import yaml

from ebbgate_lab.monitoring import dashboards

FOLDER = pathlib.Path(__file__).parents[2] / "deploy/monitoring"


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_alert_fires_when_it_should_and_is_silent_when_it_should_be() -> None:
    promtool("test", "rules", str(FOLDER / "alerts.test.yaml"))
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    names = {rule["alert"] for group in groups for rule in group["rules"]}
    expected: dict[str, list[bool]] = {name: [] for name in names}
    for test in yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())["tests"]:
        for each in test.get("promql_expr_test", ()):
            (name,) = [name for name in names if f'"{name}"' in each["expr"]]
            expected[name].append(bool(each["exp_samples"]))
    assert [name for name, found in expected.items() if sorted(found) != [False, True]] == []


def test_each_query_of_the_dashboards_is_promql(tmp_path: pathlib.Path) -> None:
    exprs = [query.expr for board in dashboards.ALL for panel in board.panels for query in panel.queries]
    rules = [
        {"record": f"query:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(exprs)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    assert f"{len(exprs)} rules found" in promtool("check", "rules", str(path))
