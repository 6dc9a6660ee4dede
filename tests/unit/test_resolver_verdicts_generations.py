"""Which generation is judged and which is in force, through every course of good and bad updates."""

import msgspec
import pytest

from ebbgate_bus.contracts import codec, facts, reports, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_resolver.core import engine
from tests.unit import resolver_objects as objects

GW = objects.node("gw", "10.0.0.1", gw="yes")
NET = objects.network("gw", "10.0.0.1/24")
POD = objects.pod("a", "gw", "10.1.0.1")


def _version(generation: int, *, good: bool, uid: str = "uid-p") -> facts.Policy:
    made = objects.policy("p", f"20.{generation}.0.0/16" if good else "nonsense")
    return msgspec.structs.replace(made, generation=generation, uid=uid)


def _course(*versions: facts.Policy) -> list[tuple[int, int, bool]]:
    """Generation judged, generation in force and whether accepted, after each."""
    resolver, seen = objects.resolver_of(GW, NET, POD), []
    for now_s, version in enumerate(versions, start=1):
        resolver.fold([objects.stored(version)])
        seen.append(_judged(resolver, float(now_s)))
    return seen


def _judged(resolver: engine.Resolver, now_s: float) -> tuple[int, int, bool]:
    made = resolver.step(now_s)
    resolver.stored(made)
    payloads = {message.subject: message.payload for message in made.verdicts}
    verdict = codec.decode(subjects.verdict("p"), payloads[subjects.verdict("p")])
    assert isinstance(verdict, reports.Verdict)
    accepted = verdict.conditions[0].status is reports.Truth.TRUE
    return verdict.generation, verdict.in_force, accepted


def test_a_bad_update_leaves_the_last_good_generation_in_force() -> None:
    versions = [_version(n, good=good) for n, good in enumerate([True, False, False, True], start=1)]
    assert _course(*versions) == [(1, 1, True), (2, 1, False), (3, 1, False), (4, 4, True)]


def test_what_was_never_good_is_not_in_force() -> None:
    assert _course(_version(1, good=False), _version(2, good=True)) == [(1, 0, False), (2, 2, True)]


def test_another_uid_inherits_nothing() -> None:
    assert _course(_version(5, good=True), _version(1, good=False, uid="new")) == [
        (5, 5, True),
        (1, 0, False),
    ]


@pytest.mark.parametrize("restarted_first", [True, False])
def test_the_generation_in_force_survives_a_restart(restarted_first: bool) -> None:
    resolver = objects.resolver_of(GW, NET, POD, _version(1, good=True))
    _judged(resolver, 1.0)
    bad = _version(2, good=False)
    if not restarted_first:
        resolver.fold([objects.stored(bad)])
        _judged(resolver, 2.0)
    plan = [Stored(subject, payload, 1) for subject, payload in resolver.live_rows.items()]
    again = objects.resolver_of(GW, NET, POD, bad)
    again.replace_plan(plan, 3.0)
    assert _judged(again, 3.0) == (2, 1, False)
