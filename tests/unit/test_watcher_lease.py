"""The election: two candidates before a server that behaves as the API does; clocks are arguments."""

import json
from typing import Any

import pytest

from ebbgate_watcher.core import course, inputs, lease

TERMS = lease.Terms(15.0, 10.0, 2.0)
WALL = "2026-01-01T00:00:00.000000Z"


class Server:
    """One Lease, with optimistic concurrency."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self._version = 0

    def answer(self, wanted: lease.Read | lease.Write) -> tuple[int, bytes]:
        match wanted, self.lease:
            case lease.Read(), None:
                return 404, b'{"message": "not found"}'
            case lease.Read(), held:
                return 200, json.dumps(held).encode()
            case lease.Write(exists=False), None:
                return self._store(wanted.body, 201)
            case lease.Write(exists=False), _:
                return 409, b'{"message": "already exists"}'
            case lease.Write(), None:
                return 404, b'{"message": "not found"}'
            case lease.Write(), held:
                same = wanted.body["metadata"].get("resourceVersion") == held["metadata"]["resourceVersion"]
                return self._store(wanted.body, 200) if same else (409, b'{"message": "modified"}')

    def _store(self, body: dict[str, Any], status: int) -> tuple[int, bytes]:
        self._version += 1
        self.lease = body | {"metadata": body["metadata"] | {"resourceVersion": str(self._version)}}
        return status, json.dumps(self.lease).encode()

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec


def candidate(name: str) -> lease.Election:
    return lease.Election("ebbgate", "ebbgate-watcher", name, TERMS)


def ask(election: lease.Election, server: Server, now: float) -> list[inputs.Input]:
    """One request and its answer."""
    wanted = election.next(now, WALL)
    status, body = server.answer(wanted)
    answered = election.read if isinstance(wanted, lease.Read) else election.written
    return answered(status, body, now)


def lead(election: lease.Election, server: Server, now: float = 0.0) -> None:
    while not election.leading(now):
        ask(election, server, now)


def test_the_first_one_makes_the_lease_and_leads() -> None:
    server, a = Server(), candidate("a")
    assert isinstance(a.next(0.0, WALL), lease.Read)
    assert ask(a, server, 0.0) == []
    assert (a.delay_s, a.leading(0.0)) == (0.0, False)
    assert ask(a, server, 0.0) == [inputs.Recovered(lease.ORIGIN)]
    assert a.leading(0.0)
    assert a.delay_s == TERMS.retry_s
    assert server.spec == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": WALL,
        "renewTime": WALL,
        "leaseTransitions": 0,
    }


def test_the_second_one_waits_while_the_first_renews() -> None:
    server, a, b = Server(), candidate("a"), candidate("b")
    lead(a, server)
    for now in range(0, 60, 2):
        ask(a, server, float(now))
        # The wall clock stands still here: what tells of a renewal is that the Lease changed.
        server.spec["renewTime"] = str(now)
        ask(b, server, now + 1.0)
        assert a.leading(now + 1.0)
        assert not b.leading(now + 1.0)
        assert b.holder == "a"


def test_the_second_one_takes_over_when_the_first_fell_silent_for_its_time() -> None:
    server, a, b = Server(), candidate("a"), candidate("b")
    lead(a, server)
    for now in range(0, 16, 2):
        ask(b, server, float(now))
        assert not b.leading(float(now))
    assert not a.leading(10.0)
    ask(b, server, 15.5)
    assert b.leading(15.5)
    assert server.spec["holderIdentity"] == "b"
    assert server.spec["leaseTransitions"] == 1
    ask(a, server, 16.0)  # what it remembers is out of date: a conflict
    assert not a.leading(16.0)
    ask(a, server, 16.0)
    assert a.holder == "b"


def test_leadership_ends_by_our_own_clock_when_it_cannot_be_renewed() -> None:
    server, a = Server(), candidate("a")
    lead(a, server)
    assert a.lost("no route") == [inputs.Broken(course.API, "no route", lease.ORIGIN)]
    assert a.leading(9.9)
    assert not a.leading(10.0)
    assert isinstance(a.next(10.0, WALL), lease.Read)
    ask(a, server, 10.0)
    ask(a, server, 10.0)
    assert a.leading(10.0)
    assert server.spec["leaseTransitions"] == 0


def test_a_released_lease_is_taken_at_once() -> None:
    server, a, b = Server(), candidate("a"), candidate("b")
    lead(a, server)
    ask(b, server, 1.0)
    wanted = a.release(WALL)
    assert wanted is not None
    assert server.answer(wanted)[0] == 200
    assert not a.leading(1.0)
    assert a.release(WALL) is None
    ask(b, server, 3.0)
    assert b.delay_s == 0.0
    ask(b, server, 3.0)
    assert b.leading(3.0)
    assert b.release(WALL) is not None
    assert candidate("c").release(WALL) is None


def test_of_two_who_take_it_at_once_one_gets_it() -> None:
    server, a, b = Server(), candidate("a"), candidate("b")
    for each in (a, b):
        ask(each, server, 0.0)
    for each in (a, b):
        ask(each, server, 0.0)
    assert (a.leading(0.0), b.leading(0.0)) == (True, False)


def test_a_lease_that_was_deleted_is_made_again() -> None:
    server, a = Server(), candidate("a")
    lead(a, server)
    server.lease = None
    assert ask(a, server, 2.0) == []
    for _ in range(2):
        ask(a, server, 4.0)
    assert a.leading(4.0)
    assert server.spec["holderIdentity"] == "a"


def test_labels_of_others_stay() -> None:
    server, a = Server(), candidate("a")
    lead(a, server)
    assert server.lease is not None
    server.lease["metadata"]["labels"] = {"app": "x"}
    server.lease["metadata"]["resourceVersion"] = "77"
    for _ in range(3):
        ask(a, server, 3.0)
    assert server.lease["metadata"]["labels"] == {"app": "x"}
    assert a.leading(3.0)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal_is_said_with_the_servers_words(status: int) -> None:
    a = candidate("a")
    said = a.read(status, b'{"message": "leases is forbidden"}', 0.0)
    assert said == [inputs.Broken(lease.ORIGIN, f"{status} leases is forbidden")]
    a.read(404, b"", 0.0)
    said = a.written(status, b'{"message": "cannot create"}', 0.0)
    assert said == [inputs.Broken(lease.ORIGIN, f"{status} cannot create")]
    assert not a.leading(0.0)
    assert a.delay_s == TERMS.retry_s


def test_a_namespace_that_is_missing_is_said() -> None:
    a = candidate("a")
    a.read(404, b"", 0.0)
    (said,) = a.written(404, b'{"message": "namespaces \\"ebbgate\\" not found"}', 0.0)
    assert isinstance(said, inputs.Broken)


@pytest.mark.parametrize("body", [b"<html>", b'{"spec": {"holderIdentity": 1}}', b'{"spec": [1]}', b"[]"])
def test_a_lease_that_cannot_be_read_is_taken_after_a_whole_term(body: bytes) -> None:
    a = candidate("a")
    a.read(200, body, 0.0)
    a.read(200, body, 14.0)
    assert isinstance(a.next(14.0, WALL), lease.Read)
    assert isinstance(a.next(15.0, WALL), lease.Write)


def test_a_lease_that_can_be_read_and_not_written_is_one_trouble() -> None:
    server, election = Server(), candidate("a")
    election.read(*server.answer(lease.Read()), 0.0)
    election.written(*server.answer(election.next(0.0, WALL)), 0.0)
    refusal = (403, b'{"message": "cannot update"}')
    said = [election.written(*refusal, 2.0)]
    for at in (4.0, 6.0):
        assert isinstance(election.next(at, WALL), lease.Read)
        said.append(election.read(*server.answer(lease.Read()), at))
        assert election.delay_s == TERMS.retry_s
        assert isinstance(election.next(at, WALL), lease.Write)
        said.append(election.written(*refusal, at))
    assert said == [[inputs.Broken(lease.ORIGIN, "403 cannot update")]] * 5
    other = candidate("b")
    other.read(*server.answer(lease.Read()), 30.0)
    other.read(*server.answer(lease.Read()), 60.0)
    other.written(*server.answer(other.next(60.0, WALL)), 60.0)
    assert election.read(*server.answer(lease.Read()), 61.0) == [inputs.Recovered(lease.ORIGIN)]
