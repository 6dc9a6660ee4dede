"""`ebbgate tap` without a bus: what a line says, what changed, what began it, and whom it is about."""

import json

import pytest
from typer.testing import CliRunner

from ebbgate_bus.contracts import catalog, codec, envelope, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from ebbgate_cli import __main__ as cli
from ebbgate_cli import concerns, happenings, lines
from ebbgate_cli.live import STORED_AT

TRACE, OTHER = "a" * 32, "b" * 32
POD = facts.Pod(namespace="default", name="a", uid="1", node="n1", ips=("10.0.0.1",), labels={"app": "x"})
SUBJECT = subjects.fact("pod", "default", "a")
ROW = rows.Endpoint(ip="10.0.0.1", set="00ff", bucket=7, pod="default/a")
ROW_SUBJECT = subjects.endpoint("n1", "10.0.0.1")


def live(subject: str, message: Message | None, trace: str = TRACE) -> Stored:
    headers = {
        envelope.TRACEPARENT: envelope.traceparent(trace, "c" * 16),
        STORED_AT: "2026-11-25T09:15:00.123456Z",
    }
    return Stored(subjects.live(subject), codec.encode(message) if message else b"", 5, headers)


def told(*messages: Stored) -> list[str]:
    heard = happenings.History()
    return [lines.of_happening(heard.take(message)).plain for message in messages]


def test_a_line_says_when_whom_and_what() -> None:
    (line,) = told(live(SUBJECT, POD))
    assert line.split() == [
        *("09:15:00.123", "fact.pod", "default/a", "namespace=default", "name=a", "uid=1"),
        *("node=n1", 'ips=["10.0.0.1"]', 'labels={"app":', '"x"}'),
    ]


def test_what_was_heard_before_is_compared_with() -> None:
    moved = POD.__class__(namespace="default", name="a", uid="1", node="n2", labels={"app": "y", "b": "c"})
    _, line, gone = told(live(SUBJECT, POD), live(SUBJECT, moved), live(SUBJECT, None))
    assert line.endswith(
        'default/a                    ips: ["10.0.0.1"] → none, labels.app: x → y, labels.b: none → c, '
        "node: n1 → n2"
    )
    assert gone.endswith("gone")


def test_what_follows_from_an_event_says_which() -> None:
    _, row, other = told(live(SUBJECT, POD), live(ROW_SUBJECT, ROW), live(ROW_SUBJECT, ROW, OTHER))
    assert row.endswith("pod=default/a  ← pod default/a")
    assert "←" not in other


def test_a_message_that_cannot_be_read_is_told_as_such() -> None:
    broken = Stored(subjects.live(SUBJECT), b"{", 5)
    foreign = Stored("ebbgate.v1.live.colour.x", b"{}", 5)
    first, second = told(broken, foreign)
    assert "unreadable" in first
    assert "not a subject" in second
    as_json = json.loads(lines.as_json(happenings.History().take(broken)))
    assert as_json["payload"] == "{"


def test_in_json_nothing_is_cut() -> None:
    heard = happenings.History()
    heard.take(live(SUBJECT, POD))
    found = json.loads(lines.as_json(heard.take(live(ROW_SUBJECT, ROW))))
    assert found["cause"] == SUBJECT
    assert (found["trace"], found["sequence"], found["changes"]) == (TRACE, 5, {})
    assert found["payload"] == json.loads(codec.encode(ROW))
    again = json.loads(lines.as_json(heard.take(live(ROW_SUBJECT, rows.Endpoint(**_of(ROW, bucket=8))))))
    assert again["changes"] == {"bucket": {"before": 7, "now": 8}}
    assert json.loads(lines.as_json(heard.take(live(SUBJECT, None))))["payload"] is None


def _of(row: rows.Endpoint, **changed: object) -> dict[str, object]:
    return {"ip": row.ip, "set": row.set, "bucket": row.bucket, "pod": row.pod} | changed


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "REMEMBERED", 2)
    heard = happenings.History()
    for number in range(3):
        heard.take(live(subjects.fact("pod", "default", f"p{number}"), POD, f"{number:032}"))
    assert heard.take(live(subjects.fact("pod", "default", "p0"), POD)).before is None
    assert heard.take(live(ROW_SUBJECT, ROW, f"{0:032}")).cause == ""


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=[entry.kind for entry in catalog.ENTRIES])
def test_every_kind_of_message_has_a_line_and_somebody_it_is_about(entry: catalog.Entry) -> None:
    heard = happenings.History()
    first = heard.take(Stored(subjects.live(entry.subject), codec.encode(entry.example), 1))
    assert lines.of_happening(first).plain.strip().startswith(entry.kind)
    assert concerns.holds(concerns.Filters(kind=entry.kind.partition(".")[0]), first)
    assert not concerns.holds(concerns.Filters(kind="colour"), first)
    assert lines.of_happening(heard.take(first.message)).plain


ABOUT = {
    "namespace": {"fact.pod", "fact.namespace", "plan.endpoint", "drop"},
    "policy": {
        *("fact.policy", "plan.endpoint", "plan.set", "plan.group", "plan.egress", "plan.policy"),
        *("status", "verdict", "stats", "drop"),
    },
    "node": {
        *("fact.pod", "fact.node", "fact.nodenetwork", "plan.group", "plan.peer", "plan.endpoint"),
        *("plan.egress", "plan.commit", "status", "verdict", "stats", "drop"),
    },
}
VALUES = {"namespace": ["default"], "policy": ["egress-sample"], "node": ["node1", "node2", "node-a"]}


@pytest.mark.parametrize("field", ABOUT)
def test_a_filter_lets_through_what_is_about_it(field: str) -> None:
    heard = happenings.History()
    taken = [
        heard.take(Stored(subjects.live(entry.subject), codec.encode(entry.example), 1))
        for entry in catalog.ENTRIES
    ]
    filters = [concerns.Filters(**{field: value}) for value in VALUES[field]]
    found = {each.name.kind for each in taken for one in filters if each.name and concerns.holds(one, each)}
    assert found == ABOUT[field]


def test_an_endpoint_is_about_the_policies_of_its_sets() -> None:
    heard = happenings.History()
    heard.know(Stored(subjects.routes("00ff", 0), codec.encode(rows.Routes(policies=("p", "q"))), 1))
    first = heard.take(live(ROW_SUBJECT, ROW))
    heard.take(live(subjects.routes("0abc", 0), rows.Routes(policies=("r",))))
    heard.take(live(subjects.routes("0abc", 0), None))
    moved = heard.take(live(ROW_SUBJECT, rows.Endpoint(**_of(ROW, set="0abc"))))
    gone = heard.take(live(ROW_SUBJECT, None))
    found = [
        {policy for policy in "pqrs" if concerns.holds(concerns.Filters(policy=policy), each)}
        for each in (first, moved, gone)
    ]
    assert found == [{"p", "q"}, {"p", "q", "r"}, {"r"}]


def test_kinds_are_those_that_are_said() -> None:
    assert {"fact", "fact.pod", "plan.endpoint", "synced", "status", "verdict", "stats"} <= set(
        concerns.KINDS
    )
    assert {"beat", "drop"}.isdisjoint(concerns.KINDS), "nobody says them on live"
    assert set(concerns.KINDS) - set(concerns.KINDS_KEPT) == {"stats"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "nonsense"], "there is no kind nonsense; there are fact, fact.namespace, "),
        (["--kind", "drop"], "there is no kind drop"),
        (["--since", "2h"], "2h is too long ago; the journal keeps 60 minutes"),
        (["--since", "61m"], "the journal keeps 60 minutes"),
        (["--since", "1h", "--kind", "stats"], "the journal has no stats"),
    ],
)
def test_what_would_never_say_anything_is_refused(arguments: list[str], said: str) -> None:
    told = CliRunner().invoke(cli.app, ["tap", *arguments, "--nats", "context:none"])
    assert told.exit_code == 2
    assert said in " ".join(told.stderr.split())
    assert "NATS" not in told.stderr


def test_what_is_gone_is_about_whom_it_was() -> None:
    heard = happenings.History()
    heard.take(live(ROW_SUBJECT, ROW))
    gone = heard.take(live(ROW_SUBJECT, None))
    assert concerns.holds(concerns.Filters(namespace="default"), gone)
    assert not concerns.holds(concerns.Filters(namespace="other"), gone)


def test_what_has_no_name_is_told_only_where_everything_is() -> None:
    foreign = happenings.History().take(Stored("ebbgate.v1.live.colour.x", b"{}", 5))
    assert concerns.holds(concerns.Filters(), foreign)
    assert not concerns.holds(concerns.Filters(node="n1"), foreign)


def test_of_a_verdict_the_conditions_that_turned_are_told() -> None:
    def verdict(status: reports.Truth, reason: str, pods: int = 1, said: str = "") -> reports.Verdict:
        accepted = reports.Condition(type="Accepted", status=reports.Truth.TRUE, reason="Valid", message=said)
        programmed = reports.Condition(type="Programmed", status=status, reason=reason)
        return reports.Verdict(policy="p", uid="1", pods=pods, conditions=(accepted, programmed))

    messages = [
        verdict(reports.Truth.FALSE, "Waiting"),
        verdict(reports.Truth.TRUE, "Programmed"),
        verdict(reports.Truth.TRUE, "Programmed", 2),
        verdict(reports.Truth.TRUE, "Programmed", 2, "generation 2"),
        reports.Verdict(policy="p", uid="1"),
    ]
    found = [
        line.partition(" p     ")[2].strip()
        for line in told(*(live(subjects.verdict("p"), each) for each in messages))
    ]
    assert found == [
        "Accepted True (Valid), Programmed False (Waiting)",
        "Programmed False (Waiting) → True (Programmed)",
        "generation 0, 2 pods, 0 of 0 nodes",
        "Accepted: generation 2",
        "generation 0, 0 pods, 0 of 0 nodes",
    ]


def test_a_problem_of_a_node_is_told_with_its_revisions() -> None:
    applied = reports.Applied(node="n1", all_revision=3, problems=(reports.Problem(reason="map full"),))
    (line,) = told(live(subjects.status("n1"), applied))
    assert line.endswith("revisions 3/0 in 0.0 ms; map full")
