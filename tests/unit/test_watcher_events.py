"""What of a change is an Event, and which Events are created, counted on, or too many."""

from typing import Any

import pytest

from ebbgate_watcher.core import occasions, recorder
from ebbgate_watcher.core.occasions import Occasion

WALL = "2026-01-01T00:00:00.000000Z"
POLICY = recorder.Policy("p", "u1")
LOST = Occasion(True, "GatewayLost", "node2: no node matches")


def status(*gateways: tuple[str, str], **conditions: tuple[str, str, str]) -> dict[str, Any]:
    """`gateways`: node and egress IP. `conditions`: type → status, reason, message."""
    return {
        "gateways": [{"node": node, "egressIPs": [ip] if ip else []} for node, ip in gateways],
        "conditions": [
            {"type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": 1}
            for type_, (status, reason, message) in conditions.items()
        ],
    }


OK = ("True", "Valid", "")
NO = ("False", "None", "")
BAD = ("False", "Rejected", "spec: bad")
CLASH = ("True", "OlderPolicyWins", "0.0.0.0/0 (served by p)")
FOUND = ("True", "Found", "node2")
NONE = ("False", "NoMatchingNode", "no node matches")
READY = ("True", "Ready", "192.0.2.1")
AWAITING = ("False", "AwaitingGateway", "not yet in the kernel of node2")
LACKING = ("False", "NoEgressIP", "node2: it has no interface eth1")
APPLIED = ("True", "Applied", "2 of 2 nodes")
WAITING = ("False", "Waiting", "1 of 2 nodes")
PROBLEM = ("False", "NodeProblem", "1 of 2 nodes; node1: no space")
PROBLEM_LATER = ("False", "NodeProblem", "2 of 3 nodes; node1: no space")
NODE2, NODE3 = ("node2", "192.0.2.1"), ("node3", "192.0.2.1")
OTHER_IP = ("node2", "192.0.2.9")

TABLE: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "nothing was, all is well": (
        {},
        status(NODE2, Accepted=OK, GatewayFound=FOUND, EgressIPReady=READY, Programmed=APPLIED, Conflict=NO),
        ["GatewayFound", "Programmed"],
    ),
    "rejected": (status(Accepted=OK), status(Accepted=BAD), ["!Rejected"]),
    "rejected at first": ({}, status(Accepted=BAD), ["!Rejected"]),
    "rejected still": (status(Accepted=BAD), status(Accepted=BAD), []),
    "rejected for another reason": (
        status(Accepted=BAD),
        status(Accepted=("False", "Rejected", "spec: worse")),
        ["!Rejected"],
    ),
    "accepted again": (status(Accepted=BAD), status(Accepted=OK), ["Accepted"]),
    "conflict": (status(Conflict=NO), status(Conflict=CLASH), ["!Conflict"]),
    "conflict still": (status(Conflict=CLASH), status(Conflict=CLASH), []),
    "conflict over": (status(Conflict=CLASH), status(Conflict=NO), ["ConflictResolved"]),
    "no gateway": ({}, status(GatewayFound=NONE), ["!NoGateway"]),
    "no gateway still": (status(GatewayFound=NONE), status(GatewayFound=NONE), []),
    "gateway lost": (status(NODE2, GatewayFound=FOUND), status(GatewayFound=NONE), ["!GatewayLost"]),
    "gateway back": (status(GatewayFound=NONE), status(NODE2, GatewayFound=FOUND), ["GatewayFound"]),
    "another gateway": (
        status(NODE2, GatewayFound=FOUND),
        status(NODE3, GatewayFound=FOUND),
        ["GatewayChanged"],
    ),
    "one gateway more": (
        status(NODE2, GatewayFound=FOUND),
        status(NODE2, NODE3, GatewayFound=FOUND),
        ["GatewayChanged"],
    ),
    "gateway as before": (status(NODE2, GatewayFound=FOUND), status(NODE2, GatewayFound=FOUND), []),
    "not in force any more": (status(NODE2, GatewayFound=FOUND), status(Accepted=OK), []),
    "no egress IP": (
        status(NODE2, EgressIPReady=READY),
        status(("node2", ""), EgressIPReady=LACKING),
        ["!NoEgressIP"],
    ),
    "no egress IP still": (status(EgressIPReady=LACKING), status(EgressIPReady=LACKING), []),
    "an egress IP awaited": (
        status(EgressIPReady=LACKING),
        status(NODE2, EgressIPReady=AWAITING),
        [],
    ),
    "an egress IP at last": (
        status(EgressIPReady=LACKING),
        status(NODE2, EgressIPReady=READY),
        ["EgressIPReady"],
    ),
    "another egress IP": (
        status(NODE2, EgressIPReady=READY),
        status(OTHER_IP, EgressIPReady=AWAITING),
        ["EgressIPChanged"],
    ),
    "applied": (status(Programmed=WAITING), status(Programmed=APPLIED), ["Programmed"]),
    "waiting": (status(Programmed=APPLIED), status(Programmed=WAITING), []),
    "a node's problem": (status(Programmed=WAITING), status(Programmed=PROBLEM), ["!ProgrammingFailed"]),
    "the same problem": (status(Programmed=PROBLEM), status(Programmed=PROBLEM_LATER), []),
    "no problem any more": (
        status(Programmed=PROBLEM),
        status(Programmed=APPLIED),
        ["ProgrammingRecovered"],
    ),
    "what isn't ours": ({"gateways": 7, "conditions": {}}, status(NODE2), []),
    "what isn't ours in a list": ({"gateways": [1, {"egressIPs": 2}]}, status(NODE2), []),
}


@pytest.mark.parametrize("name", TABLE)
def test_occasions(name: str) -> None:
    was, now, wanted = TABLE[name]
    found = [f"{'!' if each.warning else ''}{each.reason}" for each in occasions.occasions(was, now)]
    assert found == wanted


def test_occasions_tell_the_story() -> None:
    was = status(NODE2, GatewayFound=FOUND, Programmed=APPLIED)
    now = status(NODE3, GatewayFound=FOUND, Programmed=PROBLEM)
    notes = [each.note for each in occasions.occasions(was, now)]
    assert notes == ["from node2 to node3", "node1: no space"]


def next_of(recorder_: recorder.Recorder) -> recorder.Create | recorder.Count:
    found = recorder_.next(WALL)
    assert found is not None
    return found


def create(recorder_: recorder.Recorder) -> dict[str, Any]:
    found = next_of(recorder_)
    assert isinstance(found, recorder.Create)
    return found.body


def test_an_event_is_created_once_and_counted_on() -> None:
    events = recorder.Recorder("w1")
    assert not events
    events.record(POLICY, LOST, 0.0)
    assert events
    body = create(events)
    assert (body["type"], body["reason"], body["regarding"]["uid"]) == ("Warning", "GatewayLost", "u1")
    assert create(events) == body  # until it is answered
    events.said()
    assert events.next(WALL) is None
    events.record(POLICY, LOST, 1.0)
    assert next_of(events) == recorder.Count(
        body["metadata"]["name"], {"series": {"count": 2, "lastObservedTime": WALL}}
    )
    events.said()
    assert not events


def test_what_comes_while_it_waits_is_one_count() -> None:
    events = recorder.Recorder("w1")
    for _ in range(4):
        events.record(POLICY, LOST, 0.0)
    create(events)
    events.said()
    counted = next_of(events)
    assert isinstance(counted, recorder.Count)
    assert counted.body["series"]["count"] == 4
    events.said()
    assert events.next(WALL) is None


def test_once_is_once_and_a_predecessors_event_is_found() -> None:
    events = recorder.Recorder("w1")
    praise = Occasion(False, "Programmed", "generation 1", once=True)
    events.record(POLICY, praise, 0.0)
    create(events)
    events.found()
    assert events.next(WALL) is None
    events.record(POLICY, praise, 1.0)
    assert events.next(WALL) is None
    events.record(POLICY, LOST, 1.0)
    create(events)
    events.found()
    counted = next_of(events)
    assert isinstance(counted, recorder.Count)
    assert counted.body["series"]["count"] == 2


def test_an_event_that_has_expired_is_created_anew() -> None:
    events = recorder.Recorder("w1")
    events.record(POLICY, LOST, 0.0)
    create(events)
    events.said()
    events.record(POLICY, LOST, 5000.0)
    assert isinstance(next_of(events), recorder.Count)
    events.missing()
    create(events)
    events.said()
    assert events.next(WALL) is None


def test_one_policy_says_25_at_once_and_then_one_in_five_minutes() -> None:
    events = recorder.Recorder("w1")

    def sent(now: float, count: int) -> int:
        for number in range(count):
            events.record(POLICY, Occasion(True, "Rejected", f"{now} {number}"), now)
        found = 0
        while events:
            create(events)
            events.said()
            found += 1
            events.next(WALL)
        return found

    assert sent(0.0, 100) == recorder.BURST
    assert events.dropped == 75
    assert sent(299.0, 3) == 0
    assert sent(601.0, 5) == 2
    events.record(recorder.Policy("q", "u2"), LOST, 601.0)
    assert events


def test_what_waits_and_what_is_known_is_bounded() -> None:
    events = recorder.Recorder("w1")
    for number in range(recorder.WAITING_MAX + 10):
        events.record(recorder.Policy("p", f"u{number}"), LOST, 0.0)
    assert events.dropped == 10
    for number in range(3 * recorder.KNOWN_MAX):
        events.drop()
        events.next(WALL)
        events.record(recorder.Policy("p", f"v{number}"), LOST, 0.0)
    assert len(events._known) <= recorder.KNOWN_MAX + 1
    assert len(events._tokens) <= recorder.KNOWN_MAX + 2
    assert events.next(WALL) is not None
    events.clear()
    assert not events


def test_names_and_notes_fit_the_api() -> None:
    events = recorder.Recorder("w" * 300)
    long = recorder.Policy("a" * 235 + ".b" * 9, "u1")
    events.record(long, Occasion(True, "Rejected", "ü" * 2000), 0.0)
    body = create(events)
    assert len(body["metadata"]["name"]) <= 253
    assert ".." not in body["metadata"]["name"]
    assert len(body["note"].encode()) <= 1024
    assert len(body["reportingInstance"]) <= 128
