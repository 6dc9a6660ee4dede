"""`ebbgate test` says which step differs and how, and never passes a story that isn't so."""

import pathlib
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ebbgate_cli import __main__ as cli
from ebbgate_cli import stories

STORY = pathlib.Path(__file__).parents[1] / "stories" / "seed-egress-sample.yaml"
MULTI = pathlib.Path(__file__).parents[1] / "stories" / "multi-gateway-walkthrough.yaml"


def _story(path: pathlib.Path = STORY) -> dict[str, Any]:
    story: dict[str, Any] = yaml.safe_load(path.read_text())
    return story


def _lines(story: dict[str, Any]) -> list[tuple[int, str]]:
    parsed = stories.parse(yaml.safe_dump(story).encode())
    return [(difference.step, line) for difference in stories.play(parsed) for line in difference.lines]


def test_a_missing_and_an_extra_row_are_named_with_their_step() -> None:
    story = _story()
    story["steps"][1]["expect"]["node2"]["rows"] = [["10.244.1.10", "0.0.0.0/0", "10.9.9.9", "10.168.60.12"]]
    assert _lines(story) == [
        (2, "node2: missing row [10.244.1.10, 0.0.0.0/0, 10.9.9.9, 10.168.60.12]"),
        (2, "node2: extra row [10.244.1.10, 0.0.0.0/0, 10.168.60.100, 10.168.60.12]"),
    ]


def test_rejected_is_an_exact_set() -> None:
    story = _story()
    story["steps"][6]["expect"]["rejected"] = ["other"]
    (unexpected, missing) = _lines(story)
    assert unexpected[1].startswith("policy 'egress-sample' is rejected: spec.egressGateway: names both")
    assert missing == (7, "policy 'other' is not rejected")


def test_unchanged_rows_looks_at_all_nodes() -> None:
    story = _story()
    story["steps"][7]["expect"] = {"unchanged_rows": True}
    lines = [line for _, line in _lines(story)]
    assert "node1: changed: extra row [10.244.1.10, 192.168.0.0/24, 0.0.0.0, 0.0.0.1]" in lines
    assert any(line.startswith("node2: changed: missing row") for line in lines)


def test_one_of_gateways_wants_exactly_one_of_those_offered() -> None:
    story = _story(MULTI)
    first = story["steps"][0]["expect"]["k8s1"]
    first["one_of_gateways"] = {source: ["192.168.1.9"] for source in first["one_of_gateways"]}
    lines = [line for step, line in _lines(story) if step == 1]
    assert len(lines) == 8
    assert all("not one of ['192.168.1.9']" in line for line in lines)


def test_an_alternative_that_is_not_listed_is_an_extra_row() -> None:
    story = _story(MULTI)
    story["steps"] = story["steps"][:1]
    expect = story["steps"][0]["expect"]["k8s1"]
    expect["rows"] = [row for row in expect["rows"] if row[3] == "192.168.1.1"]
    lines = [line for _, line in _lines(story)]
    assert any("extra row" in line for line in lines)
    assert any("0 rows for" in line for line in lines)


def test_stable_tells_who_moved() -> None:
    story = _story(MULTI)
    # The last step sends all to one gateway; offering both makes the moves needless.
    story["steps"][-1]["expect"]["k8s1"] |= {
        "one_of_gateways": story["steps"][0]["expect"]["k8s1"]["one_of_gateways"],
        "stable": True,
        "rows": story["steps"][0]["expect"]["k8s1"]["rows"],
    }
    lines = [line for step, line in _lines(story) if step == 5]
    assert lines
    assert all(" moved from 192.168.1." in line and line.endswith("to 192.168.1.1") for line in lines)


def test_an_unusable_object_in_a_story_is_a_difference() -> None:
    story = _story()
    story["steps"][0]["apply"].append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "A_B"}})
    assert any("unusable pod" in line for _, line in _lines(story))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [", "not YAML"),
        ("- 1", "Expected object"),
        ("name: x\nsteps: []", "at least one step"),
        ("name: x\nsteps: [{title: a}]", "at least one of apply and delete"),
        ("name: x\nsteps: [{title: a, aply: []}]", "unknown field"),
        ("name: x\nsteps: [{title: a, apply: [1], order: [apply]}]", "order is"),
        ("name: x\nsteps: [{title: a, delete: [{kind: Moon, name: x}]}]", "unknown kind 'Moon'"),
        ("name: x\nsteps: [{title: a, apply: [1], expect: {n: {rows: [[1]]}}}]", "expect:"),
        ("name: x\nsteps: [{title: a, apply: [1], expect: {n: {row: []}}}]", "expect:"),
    ],
)
def test_what_is_not_a_story_is_told_why(text: str, word: str) -> None:
    with pytest.raises(stories.NotAStory) as refused:
        stories.parse(text.encode())
    assert word in str(refused.value)


def test_exit_codes_and_the_last_line(tmp_path: pathlib.Path) -> None:
    broken, other = tmp_path / "broken.yaml", tmp_path / "other.yaml"
    story = _story()
    story["steps"][1]["expect"]["node1"]["rows"] = []
    other.write_text(yaml.safe_dump(story))
    broken.write_text("- 1")
    for files, code, last in (
        ([STORY], 0, "1 passed, 0 failed"),
        ([STORY, other], 1, "1 passed, 1 failed"),
        ([other, broken], 2, "0 passed, 2 failed"),
    ):
        result = CliRunner().invoke(cli.app, ["test", *map(str, files)])
        assert result.exit_code == code
        assert result.stdout.splitlines()[-1] == last
    assert f"{broken}: not a story: " in result.stderr
    assert "step 2, the Pod is steered to node2 and only node2 lists the egress IP" in result.stdout
