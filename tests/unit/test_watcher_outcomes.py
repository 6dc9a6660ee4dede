"""Which status is written when, before an API that behaves: concurrency, uids, CRDs without status."""

import json
from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import codec, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.reports import Condition, ServingGateway, Truth, Verdict
from ebbgate_watcher.core import course, inputs, lanes, objects, outcomes, recorder, statuses

WALL = "2026-01-01T00:00:00.000000Z"
LATER = "2026-01-02T00:00:00.000000Z"
SPEC: dict[str, Any] = {"selectors": [], "destinationCIDRs": []}


def said(type_: str, status: bool, reason: str, message: str = "") -> Condition:
    return Condition(type=type_, status=Truth.TRUE if status else Truth.FALSE, reason=reason, message=message)


GOOD = (
    said("Accepted", True, "Valid"),
    said("GatewayFound", True, "Found", "node2"),
    said("EgressIPReady", True, "Ready", "192.0.2.1"),
    said("Programmed", True, "Applied", "2 of 2 nodes"),
    said("Conflict", False, "None"),
)
LOST = (GOOD[0], said("GatewayFound", False, "NoMatchingNode", "no node matches"), *GOOD[2:])


class Server:
    """The API, as far as it matters. `refusals`: answers it gives instead, one after the other."""

    def __init__(self, *, status: bool = True, drops: tuple[str, ...] = ()) -> None:
        self.policies: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.refusals: list[tuple[int, str]] = []
        self.writes: list[str] = []
        self.has_status, self.drops = status, drops
        self._version = 0

    def apply(self, name: str, uid: str = "u1", **metadata: Any) -> objects.Observed:
        known = self.policies.get(name, {"metadata": {"name": name, "generation": 1}, "spec": SPEC})
        if known["metadata"].get("uid") not in (None, uid):
            known = {"metadata": {"name": name, "generation": 1}, "spec": SPEC}
        known["metadata"] |= {"uid": uid, "resourceVersion": self._next(), **metadata}
        self.policies[name] = known
        return self.seen(name)

    def seen(self, name: str) -> objects.Observed:
        found = objects.read("policy", json.dumps(self.policies[name]).encode())
        assert isinstance(found, objects.Observed)
        return found

    def answer(self, request: outcomes.Request) -> tuple[int, bytes]:
        if self.refusals:
            code, message = self.refusals.pop(0)
            return code, json.dumps({"message": message}).encode()
        match request:
            case outcomes.AskKind():
                kinds = [outcomes.PLURAL, *([f"{outcomes.PLURAL}/status"] if self.has_status else ())]
                return 200, json.dumps({"resources": [{"name": kind} for kind in kinds]}).encode()
            case outcomes.WriteStatus():
                return self._write(request)
            case recorder.Create():
                name = request.body["metadata"]["name"]
                status = 409 if name in self.events else 201
                self.events.setdefault(name, request.body)
                return status, b"{}"
        if request.name not in self.events:
            return 404, b"{}"
        self.events[request.name] |= request.body
        return 200, b"{}"

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.events.values()]

    def _write(self, request: outcomes.WriteStatus) -> tuple[int, bytes]:
        known = self.policies.get(request.name)
        if known is None or not self.has_status:
            return 404, b'{"message": "not found"}'
        theirs = request.body["metadata"]
        if any(theirs[key] != known["metadata"][key] for key in ("uid", "resourceVersion")):
            return 409, b'{"message": "modified"}'
        self.writes.append(request.name)
        known["status"] = {
            key: value for key, value in request.body["status"].items() if key not in self.drops
        }
        known["metadata"]["resourceVersion"] = self._next()
        return 200, json.dumps(known).encode()

    def _next(self) -> str:
        self._version += 1
        return str(self._version)


class Watcher:
    """One that leads. `remarks`: what it said for the log."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.outcomes = outcomes.Outcomes("w1")
        self.now = 1000.0
        self.wall = WALL
        self.remarks: list[inputs.Input] = []

    def see(self, *names: str) -> None:
        self.hear(*(inputs.Seen("policy", self.server.seen(name), 0) for name in names))

    def judge(self, name: str, conditions: tuple[Condition, ...] = GOOD, **fields: Any) -> None:
        self.hear(inputs.Reported("verdict", False, (stored(name, conditions, **fields),)))

    def hear(self, *arrived: inputs.Input) -> None:
        self.outcomes.hear(arrived, self.now)

    def work(self, seconds: float = 10.0) -> int:
        """Do all that is to be done within; answers with the number of requests."""
        end, sent = self.now + seconds, 0
        while True:
            while request := self.outcomes.next(self.now, self.wall):
                sent += 1
                assert sent < 2000
                self.remarks += self.outcomes.answered(request, *self.server.answer(request), self.now)
            wake_at = self.outcomes.wake_at()
            if wake_at is None or wake_at > end:
                self.now = end
                return sent
            self.now = max(self.now + 0.001, wake_at)

    def troubles(self) -> list[str]:
        return [each.reason for each in self.remarks if isinstance(each, inputs.Broken)]

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        return statuses.condition(self.server.policies[name].get("status", {}), type_)


def stored(name: str, conditions: tuple[Condition, ...] = GOOD, **fields: Any) -> Stored:
    usual: dict[str, Any] = {
        "uid": "u1",
        "generation": 1,
        "in_force": 1,
        "pods": 3,
        "nodes_wanted": ("node1", "node2"),
        "nodes_programmed": ("node1", "node2"),
    }
    if conditions[1:2] == GOOD[1:2]:
        usual["gateways"] = (
            ServingGateway(node="node2", gateway_ip="10.0.0.2", egress_ips=("192.0.2.1",), pods=3),
        )
    verdict = Verdict(policy=name, conditions=conditions, **(usual | fields))
    return Stored(subjects.verdict(name), codec.encode(verdict), 1)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def watcher(server: Server) -> Watcher:
    watcher = Watcher(server)
    server.apply("p")
    watcher.see("p")
    return watcher


def test_a_verdict_is_written_and_an_equal_one_is_not(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    watcher.work()
    status = server.policies["p"]["status"]
    assert status["summary"] == {"gateways": "node2", "egressIPs": "192.0.2.1", "programmed": "2/2"}
    assert (status["pods"], status["observedGeneration"], status["generationInForce"]) == (3, 1, 1)
    assert status["conditions"][0]["type"] == "Ready"
    watcher.see("p")
    watcher.judge("p")
    assert watcher.work() == 0
    assert server.writes == ["p"]


def test_a_condition_keeps_its_time_while_it_stays(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    watcher.work()
    watcher.wall = LATER
    watcher.judge("p", LOST)
    watcher.work()
    times = {
        type_: watcher.condition("p", type_)["lastTransitionTime"] for type_ in ("Accepted", "GatewayFound")
    }
    assert times == {"Accepted": "2026-01-01T00:00:00Z", "GatewayFound": "2026-01-02T00:00:00Z"}
    assert watcher.condition("p", "Ready")["reason"] == "NoMatchingNode"


def test_what_changes_at_once_is_written_once_and_numbers_less_often(
    watcher: Watcher, server: Server
) -> None:
    watcher.judge("p", LOST)
    watcher.judge("p")
    watcher.work()
    assert server.writes == ["p"]
    for pods in range(4, 24):
        watcher.judge("p", pods=pods)
        watcher.work(0.5)
    watcher.work()
    assert server.policies["p"]["status"]["pods"] == 23
    assert 2 <= len(server.writes) - 1 <= 4


def behind_s(watcher: Watcher) -> float:
    return watcher.outcomes.behind_s(watcher.now)


def test_it_is_behind_from_hearing_a_verdict_until_that_is_written(watcher: Watcher, server: Server) -> None:
    server.apply("q")
    watcher.see("q")
    assert behind_s(watcher) == 0
    server.refusals = [(403, "forbidden")] * 100
    watcher.judge("p")
    for name, conditions in (("q", GOOD), ("p", LOST)) * 4:
        watcher.work(4)
        watcher.judge(name, conditions)  # another one: it's the first that counts
    watcher.hear(inputs.Reported("verdict", True, (stored("p"), stored("q"))))  # read anew
    watcher.see("p")
    assert behind_s(watcher) == 32
    server.refusals = []
    watcher.work(120)
    assert (sorted(server.writes), behind_s(watcher)) == (["p", "q"], 0)


def test_what_it_looks_at_again_is_no_lag(watcher: Watcher, server: Server) -> None:
    for _ in range(2):  # written, then found equal
        watcher.judge("p")
        watcher.work(100)
        watcher.see("p")
        assert behind_s(watcher) == 0
    watcher.outcomes.rest()
    watcher.judge("p", LOST)
    watcher.now += 1000
    watcher.outcomes.begin(watcher.now)  # another led: what was heard meanwhile isn't late yet
    assert behind_s(watcher) == 0
    server.policies["p"].pop("status")
    watcher.see("p")
    server.refusals = [(403, "forbidden")] * 100
    watcher.work(7)
    assert behind_s(watcher) == 7
    watcher.hear(inputs.Reported("verdict", False, (Stored(subjects.verdict("p"), b"", 12),)))
    assert behind_s(watcher) == 0


def test_a_verdict_that_comes_while_one_is_written_is_waited_for(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    watcher.now += outcomes.SETTLE_S
    while not isinstance(request := watcher.outcomes.next(watcher.now, WALL), outcomes.WriteStatus):
        assert request is not None
        watcher.outcomes.answered(request, *server.answer(request), watcher.now)
    watcher.judge("p", LOST)
    watcher.outcomes.answered(request, *server.answer(request), watcher.now)
    server.refusals = [(403, "forbidden")] * 100
    watcher.work(20)
    assert behind_s(watcher) == pytest.approx(20)


@pytest.mark.parametrize("status", [400, 422])
def test_what_is_refused_for_good_or_has_no_place_is_not_waited_for(
    watcher: Watcher, server: Server, status: int
) -> None:
    server.refusals = [(status, "no")] * 2  # of the Event, and of the status
    for conditions in (GOOD, LOST):
        watcher.judge("p", conditions)
        watcher.work(20)
        watcher.see("p")
        assert (server.writes, behind_s(watcher)) == ([], 0)
        server.has_status = False


@pytest.mark.parametrize("fields", [{"uid": "u0"}, {"generation": 0}, {"generation": 2}])
def test_a_verdict_on_anything_else_is_not_written(
    watcher: Watcher, server: Server, fields: dict[str, Any]
) -> None:
    watcher.judge("p", **fields)
    assert watcher.work() == 0
    assert server.writes == []


def test_a_verdict_overtaken_before_it_is_written_is_forgotten(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    server.refusals = [(503, "busy")] * 3
    watcher.work(0.3)
    server.apply("p", generation=2)
    watcher.see("p")
    server.refusals = []
    watcher.work()
    assert server.writes == []
    watcher.judge("p", generation=2, in_force=2)
    watcher.work()
    assert server.policies["p"]["status"]["observedGeneration"] == 2


def test_what_is_seen_late_does_not_undo_what_was_answered(watcher: Watcher, server: Server) -> None:
    before = server.seen("p")
    watcher.judge("p")
    watcher.work()
    watcher.hear(inputs.Seen("policy", before, 0))
    assert watcher.work() == 0


def test_a_conflict_waits_for_the_change_to_be_seen(watcher: Watcher, server: Server) -> None:
    server.apply("p", labels={"new": "one"})
    watcher.judge("p")
    watcher.work(1.0)
    assert server.writes == []
    watcher.see("p")
    watcher.work(1.5)
    assert server.writes == ["p"]
    assert watcher.troubles() == []


def test_another_object_of_that_name_starts_anew(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    watcher.work()
    server.apply("p", uid="u2")
    watcher.see("p")
    watcher.work()
    assert "status" not in server.policies["p"]
    watcher.judge("p", uid="u2")
    watcher.work()
    assert watcher.condition("p", "Ready")["status"] == "True"
    watcher.hear(inputs.Vanished("policy", subjects.fact("policy", "p"), "u1", 0))
    server.apply("p", uid="u2", labels={"still": "there"})
    watcher.see("p")
    watcher.judge("p", LOST, uid="u2")
    watcher.work()
    assert watcher.condition("p", "Ready")["status"] == "False"


def test_what_is_gone_is_not_written(watcher: Watcher, server: Server) -> None:
    server.apply("q")
    watcher.see("q")
    watcher.judge("p")
    watcher.judge("q")
    watcher.hear(inputs.Vanished("policy", subjects.fact("policy", "p"), "", 0))
    watcher.hear(inputs.Vanished("policy", subjects.fact("policy", "never"), "", 0))
    watcher.hear(inputs.Listed("policy", (), 0))
    assert watcher.work() == 0
    watcher.hear(inputs.Listed("policy", (server.seen("q"), objects.Unusable("", "policy", "x", "y")), 0))
    watcher.work()
    assert server.writes == ["q"]


def test_a_policy_deleted_unseen_is_no_trouble(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    del server.policies["p"]
    watcher.work(3.0)
    watcher.hear(inputs.Vanished("policy", subjects.fact("policy", "p"), "u1", 0))
    watcher.work()
    assert watcher.troubles() == []


def test_without_a_status_in_the_crd_it_is_said_once_and_looked_at_again() -> None:
    server = Server(status=False)
    watcher = Watcher(server)
    for name in ("p", "q"):
        server.apply(name)
        watcher.see(name)
        watcher.judge(name)
    watcher.work()
    assert set(watcher.troubles()) == {outcomes.NO_STATUS}
    assert sorted(server.reasons()) == ["GatewayFound"] * 2 + ["Programmed"] * 2
    assert watcher.work(50.0) == 0
    successor, before = Watcher(server), list(server.events.values())
    successor.see("p", "q")
    successor.judge("p")
    successor.work()
    assert list(server.events.values()) == before
    server.has_status = True
    watcher.work(20.0)
    assert sorted(server.writes) == ["p", "q"]
    assert inputs.Recovered(outcomes.STATUS) in watcher.remarks


def test_a_crd_that_went_says_nothing_of_a_status(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    while not isinstance(request := watcher.outcomes.next(watcher.now, WALL), outcomes.WriteStatus):
        watcher.now += 0.2
        if request:
            watcher.outcomes.answered(request, *server.answer(request), watcher.now)
    assert watcher.outcomes.answered(request, 404, b"", watcher.now) == []
    while not isinstance(asked := watcher.outcomes.next(watcher.now, WALL), outcomes.AskKind):
        watcher.now += 0.2
        if asked:
            watcher.outcomes.answered(asked, *server.answer(asked), watcher.now)
    assert watcher.outcomes.answered(asked, 404, b"page not found", watcher.now) == []
    assert outcomes.AskKind() == watcher.outcomes.next(watcher.now + 61, WALL)
    (trouble,) = watcher.outcomes.answered(asked, 403, b'{"message": "no"}', watcher.now)
    assert trouble == inputs.Broken(outcomes.STATUS, "403 no")


def test_another_schema_that_drops_the_status_is_written_once() -> None:
    server = Server(drops=("conditions", "summary"))
    watcher = Watcher(server)
    server.apply("p")
    watcher.see("p")
    watcher.judge("p")
    watcher.work(30.0)
    watcher.see("p")
    watcher.judge("p")
    watcher.work(30.0)
    assert server.writes == ["p"]
    (said,) = set(watcher.troubles())
    assert "drops" in said
    watcher.judge("p", LOST)
    watcher.work()
    assert server.writes == ["p", "p"]


def test_a_status_that_is_refused_is_said_and_not_tried_again(watcher: Watcher, server: Server) -> None:
    server.apply("q")
    watcher.see("q")
    watcher.judge("p")
    while not isinstance(request := watcher.outcomes.next(watcher.now, WALL), outcomes.WriteStatus):
        watcher.now += 0.2
        if request:
            watcher.outcomes.answered(request, *server.answer(request), watcher.now)
    refused = watcher.outcomes.answered(request, 422, b'{"message": "odd"}', watcher.now)
    assert refused == [inputs.Broken("status of p", "422 odd")]
    watcher.see("p")
    watcher.judge("q")
    watcher.work(30.0)
    assert server.writes == ["q"]
    watcher.judge("p", LOST)
    watcher.work()
    assert server.writes == ["q", "p"]


FORBIDDEN = 'policies "p" is forbidden: User "w" cannot patch resource "x/status" in API group "cilium.io"'


def test_a_missing_right_is_one_trouble_whatever_the_policy(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    watcher.work()
    watcher.judge("p", LOST)
    server.refusals = [(403, FORBIDDEN)] * 6
    watcher.work(30.0)
    assert len(set(watcher.troubles())) == 1
    assert 'cannot patch resource "x/status"' in watcher.troubles()[0]
    assert '"p"' not in watcher.troubles()[0]
    watcher.work(60.0)
    assert watcher.condition("p", "Ready")["status"] == "False"


def test_a_lost_connection_is_the_api_servers_trouble_and_tried_again(
    watcher: Watcher, server: Server
) -> None:
    watcher.judge("p")
    watcher.now += 1
    request = watcher.outcomes.next(watcher.now, WALL)
    assert request is not None
    lane = outcomes.STATUS if isinstance(request, outcomes.WriteStatus) else outcomes.EVENTS
    assert watcher.outcomes.lost(request, "cut", watcher.now) == [inputs.Broken(course.API, "cut", lane)]
    watcher.work(30.0)
    assert inputs.Recovered(course.API, lane) in watcher.remarks
    assert server.writes == ["p"]


def test_the_servers_word_on_when_to_come_back_is_kept(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    watcher.now += 1
    while (request := watcher.outcomes.next(watcher.now, WALL)) is not None:
        watcher.outcomes.answered(request, 429, b"{}", watcher.now, patience_s=20.0)
    watcher.work(19.0)
    assert (server.writes, server.events) == ([], {})
    watcher.work(30.0)
    assert server.writes == ["p"]


def test_who_takes_over_writes_and_says_nothing_in_an_unchanged_world(
    watcher: Watcher, server: Server
) -> None:
    watcher.judge("p", LOST)
    watcher.work()
    other = Watcher(server)
    other.see("p")
    other.judge("p", LOST)
    other.outcomes.begin(other.now)
    assert other.work() == 0
    watcher.outcomes.rest()
    other.judge("p")
    other.work()
    watcher.see("p")
    watcher.judge("p")
    watcher.outcomes.begin(watcher.now)
    assert watcher.work() == 0


def test_a_verdict_without_its_policy_waits_for_it(server: Server) -> None:
    watcher = Watcher(server)
    watcher.judge("p")
    assert watcher.work() == 0
    server.apply("p")
    watcher.hear(inputs.Listed("policy", (server.seen("p"),), 0))
    watcher.work()
    assert server.writes == ["p"]


def test_verdicts_that_can_not_be_read_or_are_no_more_count_as_none(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    tombstone = Stored(subjects.verdict("p"), b"", 2)
    watcher.hear(inputs.Reported("verdict", False, (tombstone, Stored(subjects.verdict("q"), b"{", 3))))
    watcher.work()
    watcher.judge("p")
    watcher.hear(inputs.Reported("verdict", True, ()))
    watcher.hear(inputs.Seen("pod", server.seen("p"), 0))
    watcher.work()
    assert server.writes == []


def test_a_verdict_that_goes_before_it_is_written_is_not(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    server.refusals = [(503, "busy")] * 2
    watcher.work(0.2)
    watcher.hear(inputs.Reported("verdict", True, ()))
    server.refusals = []
    watcher.work()
    assert server.writes == []


def test_an_answer_about_what_is_another_object_by_now_is_dropped(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    while not isinstance(request := watcher.outcomes.next(watcher.now, WALL), outcomes.WriteStatus):
        watcher.now += 0.2
        if request:
            watcher.outcomes.answered(request, *server.answer(request), watcher.now)
    server.apply("p", uid="u2")
    watcher.see("p")
    assert watcher.outcomes.answered(request, 200, b"{}", watcher.now) == []


def test_an_answer_that_is_no_policy_is_taken_for_done(watcher: Watcher, server: Server) -> None:
    watcher.judge("p")
    while not isinstance(request := watcher.outcomes.next(watcher.now, WALL), outcomes.WriteStatus):
        watcher.now += 0.2
        if request:
            watcher.outcomes.answered(request, *server.answer(request), watcher.now)
    assert inputs.Recovered("status") in watcher.outcomes.answered(request, 200, b"[]", watcher.now)


def test_all_stays_within_a_rate(server: Server) -> None:
    watcher = Watcher(server)
    for number in range(400):
        server.apply(f"p{number}")
        watcher.see(f"p{number}")
        watcher.judge(f"p{number}", LOST)
    began = watcher.now
    sent = watcher.work(2.0)
    assert lanes.BURST <= sent <= lanes.BURST + lanes.RATE * (watcher.now - began) + 1
    assert len(server.writes) > sent / 4  # Events don't keep statuses waiting
    watcher.work(60.0)
    assert len(server.writes) == 400


def test_a_status_of_anybody_can_be_compared() -> None:
    verdict = codec.decode(subjects.verdict("p"), stored("p").payload)
    assert isinstance(verdict, Verdict)
    for odd in (
        {"conditions": "none"},
        {"conditions": [1, {"type": 2}, {"type": "Ready"}], "summary": "x"},
        {"summary": None, "pods": "many"},
    ):
        wanted = statuses.status(verdict, odd, "2026-01-01T00:00:00Z")
        assert not statuses.same(wanted, odd)
        assert statuses.gist(wanted) != statuses.gist(odd)
    assert statuses.parse(b"[") == statuses.parse(b"null") == statuses.parse(b"") == {}
    others = {"type": "Audited", "status": "True"}
    wanted = statuses.status(verdict, {}, "2026-01-01T00:00:00Z")
    assert statuses.same(wanted, wanted | {"conditions": [*wanted["conditions"][::-1], others]})


def test_a_long_message_is_cut() -> None:
    long = said("Accepted", False, "Rejected", "x" * 100_000)
    verdict = msgspec.structs.replace(
        codec.decode(subjects.verdict("p"), stored("p").payload), conditions=(long,)
    )
    assert isinstance(verdict, Verdict)
    status = statuses.status(verdict, {}, "2026-01-01T00:00:00Z")
    assert {len(each["message"]) for each in status["conditions"]} == {statuses.MESSAGE_MAX}


def test_troubles_with_events_are_not_those_of_statuses(watcher: Watcher, server: Server) -> None:
    class NoEvents(Server):
        def answer(self, request: outcomes.Request) -> tuple[int, bytes]:
            if isinstance(request, recorder.Create):
                return (
                    403,
                    b'{"message": "events \\"x\\" is forbidden: User w cannot create resource events"}',
                )
            return super().answer(request)

    barred = NoEvents()
    barred.policies, barred._version = server.policies, server._version
    watcher.server = barred
    watcher.judge("p")
    watcher.work(5.0)
    assert barred.writes == ["p"]
    assert set(watcher.troubles()) == {"403 forbidden: User w cannot create resource events"}
    watcher.server = server
    watcher.work(40.0)
    assert server.reasons() == ["GatewayFound", "Programmed"]


def test_an_event_that_has_expired_is_created_anew_and_an_odd_one_dropped(
    watcher: Watcher, server: Server
) -> None:
    for _ in range(2):
        watcher.judge("p")
        watcher.work()
        watcher.judge("p", LOST)
        watcher.work()
        server.events.clear()
    assert watcher.troubles() == []
    server.refusals = [(422, "odd")]
    watcher.judge("p", (said("Accepted", False, "Rejected", "bad"),))
    watcher.now += 0.2
    watcher.work(0.05)
    while watcher.outcomes.wake_at() is not None:
        watcher.work()
    assert "422 odd" in watcher.troubles()
