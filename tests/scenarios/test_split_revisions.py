"""A policy that chooses other pods or destinations and gets another gateway at once, in a revision of several
batches, where that gateway is ready already: what it chose before must not see the new egress IP, nor what it
chooses now the old one. Neither if the resolver dies between two batches and another one goes on.
"""

import copy
from typing import Any

import pytest

from ebbgate_bus.contracts import codec, facts, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_resolver.core import engine
from tests.scenarios import safety
from tests.unit import resolver_objects as objects

THROUGH_GX: dict[str, Any] = {"egressGateway": {"nodeSelector": {"matchLabels": {"gx": "yes"}}}}
ANEW = [("pods",), ("destinations",), ("pods", "destinations")]
BEFORE = "20.0.0.0/8"


def chosen(label: str) -> list[dict[str, Any]]:
    return [{"podSelector": {"matchExpressions": [{"key": label, "operator": "Exists"}]}}]


WORLD = (
    *(objects.node(name, ip, **{name: "yes"}) for name, ip in (("gw", "10.0.0.1"), ("gx", "10.0.0.2"))),
    *(objects.network(name, f"{ip}/24") for name, ip in (("gw", "10.0.0.1"), ("gx", "10.0.0.2"))),
    *(objects.node(f"n{i}", f"10.2.{i}.1") for i in range(4)),
    *(objects.pod(f"a{i}", f"n{i % 4}", f"10.1.0.{i}", a="", **{f"q{i % 8}": ""}) for i in range(12)),
    *(objects.pod(f"b{i}", f"n{i % 4}", f"10.1.1.{i}", b="", **{f"q{i % 8}": ""}) for i in range(12)),
    # So that the policy is part of many sets, and the other gateway's slot is open.
    *(
        objects.policy(f"q{i}", f"{30 + i}.0.0.0/8", selectors=chosen(f"q{i}"), **THROUGH_GX)
        for i in range(8)
    ),
)


def changed(anew: tuple[str, ...]) -> facts.Policy:
    destinations = "21.0.0.0/8" if "destinations" in anew else BEFORE
    return objects.policy("p", destinations, selectors=chosen("b" if "pods" in anew else "a"), **THROUGH_GX)


@pytest.fixture
def resolver() -> engine.Resolver:
    return objects.resolver_of(*WORLD, objects.policy("p", BEFORE, selectors=chosen("a")))


@pytest.fixture
def checker(resolver: engine.Resolver) -> safety.Safety:
    """The world before the change is in force."""
    checker = safety.Safety()
    for second in (1.0, 2.0):
        made = resolver.step(second)
        checker.take(made.batches)
        resolver.stored(made)
        resolver.fold([objects.stored(objects.applied(resolver, name)) for name in ("gw", "gx")])
    return checker


def successor(checker: safety.Safety, anew: tuple[str, ...]) -> engine.Resolver:
    """One that has read what is stored."""
    resolver = objects.resolver_of(*WORLD, changed(anew))
    commits = {subjects.commit(scope): codec.encode(commit) for scope, commit in checker.commits.items()}
    writer = {subjects.WRITER: codec.encode(rows.Writer(epoch=1, revision=checker.revision))}
    held = checker.rows | commits | writer
    resolver.replace_plan([Stored(subject, payload, 1) for subject, payload in held.items()], 3.0)
    resolver.fold([objects.stored(objects.applied(resolver, name)) for name in ("gw", "gx")])
    return resolver


@pytest.mark.parametrize("fit", [6, 10])
@pytest.mark.parametrize("anew", ANEW, ids="+".join)
def test_no_source_is_wrong_between_the_batches_nor_after_a_crash_there(
    resolver: engine.Resolver,
    checker: safety.Safety,
    monkeypatch: pytest.MonkeyPatch,
    fit: int,
    anew: tuple[str, ...],
) -> None:
    monkeypatch.setattr(streams, "MAX_BATCH", fit)
    resolver.fold([objects.stored(changed(anew))])
    made = resolver.step(3.0)
    assert len(made.batches) > 1
    for stored in range(1, len(made.batches) + 1):
        batches = made.batches[:stored]
        seen = copy.deepcopy(checker)
        seen.take(batches)
        other = successor(seen, anew)
        rest = other.step(4.0)
        assert bool(rest.batches) == (stored < len(made.batches))
        other.stored(rest)
        copy.deepcopy(checker).take((*batches, *rest.batches))
        (path,) = objects.group_of(other, "p").ipv4.paths  # type: ignore[union-attr]
        assert path.node == "gx"
    resolver.stored(made)
    assert resolver.live_rows == seen.rows
