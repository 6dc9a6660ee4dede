"""Metrics' table, dashboards and alerts: none may be out of date, or ask for what no service tells."""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ebbgate_lab.monitoring import catalogue, dashboards, files, panels

ROOT = pathlib.Path(__file__).parents[2]
ALERTS = ROOT / "deploy/monitoring/alerts.yaml"
FILES = files.all_of_them()
SERIES = catalogue.series()
OF_TARGETS = {"instance", "job", "namespace", "pod", "node"}
"""Labels that Prometheus gives to everything that it asks."""

_NAME = re.compile(r"\b((?:ebbgate|process)_[a-z_]+)\b(\{[^}]*\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_LEGEND = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}")


def queries() -> Iterator[tuple[str, str, str]]:
    """Where, the query, and the text that is made of its labels."""
    for dashboard in dashboards.ALL:
        for panel in dashboard.panels:
            for query in panel.queries:
                yield f"{dashboard.uid}: {panel.title}", query.expr, query.legend
        for variable in dashboard.variables:
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.query)
            assert found
            yield f"{dashboard.uid}: ${variable.name}", f"sum by ({found[2]}) ({found[1]})", ""
    for alert in alerts():
        yield alert["alert"], alert["expr"], " ".join(alert["annotations"].values())


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("name", FILES)
def test_what_is_committed_is_what_the_services_declare(name: str) -> None:
    assert (ROOT / name).read_text() == FILES[name], "run make reference"


@pytest.mark.parametrize(("where", "expr", "text"), list(queries()), ids=lambda value: str(value)[:60])
def test_a_query_names_metrics_and_labels_that_exist(where: str, expr: str, text: str) -> None:
    asked = _NAME.findall(expr)
    assert asked, where
    known: set[str] = set()
    for name, matchers in asked:
        assert name in SERIES, f"{where}: no service tells {name}"
        labels = SERIES[name] | OF_TARGETS
        assert set(_MATCHER.findall(matchers)) <= labels, f"{where}: {name}{matchers}"
        known |= labels
    groupings = [set(re.split(r"\s*,\s*", each.strip())) for each in _GROUPING.findall(expr)]
    for grouping in groupings:
        assert grouping <= known, f"{where}: grouped by {grouping - known}"
    shown = set(_LEGEND.findall(text))
    left = set.union(*groupings) if groupings else known
    assert shown <= left, f"{where}: {shown - left} isn't there any more"


def test_every_metric_of_traffic_and_policies_is_on_a_dashboard() -> None:
    shown = " ".join(expr for _, expr, _ in queries())
    counted = [
        name for name in SERIES if re.match("ebbgate_(programmer|resolver)_(policy|egress|drops)", name)
    ]
    assert len(counted) > 10
    assert [name for name in counted if name not in shown] == []


@pytest.mark.parametrize("dashboard", dashboards.ALL, ids=lambda each: str(each.uid))
def test_panels_neither_overlap_nor_leave_the_page(dashboard: panels.Dashboard) -> None:
    rendered = json.loads(FILES[f"{files.DASHBOARDS}/{dashboard.uid}.json"])
    cells: set[tuple[int, int]] = set()
    for panel in rendered["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= panels.COLUMNS
        mine = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert not mine & cells, panel["title"]
        cells |= mine
        assert panel["description"]
    assert len({panel["id"] for panel in rendered["panels"]}) == len(rendered["panels"])


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE)
    names = [alert["alert"] for alert in alerts()]
    assert sorted(headings) == sorted(names)
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/runbooks.md#{alert['alert'].lower()}"
