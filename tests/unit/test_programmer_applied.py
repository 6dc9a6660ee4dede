"""An Applied carries the trace of the newer Commit."""

from ebbgate_bus.contracts import envelope, rows
from ebbgate_programmer.core import applied, scopes


def _agreed(sequence: int, seen: str) -> scopes.Agreed:
    commit = rows.Commit(epoch=1, revision=1, count=0, digest="")
    headers = {envelope.SEEN: seen, envelope.TRACEPARENT: f"00-{seen}", "Nats-Sequence": "1"}
    return scopes.Agreed({}, commit, sequence, headers)


def test_seen_and_trace_are_those_of_the_commit_with_the_higher_sequence() -> None:
    passed = applied.headers((_agreed(9, "later"), _agreed(3, "earlier")))
    assert passed == {envelope.SEEN: "later", envelope.TRACEPARENT: "00-later"}
