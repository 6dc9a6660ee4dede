"""Routes of a set: the older policy wins the same CIDR, exclusions win within their policy."""

from ebbgate_bus.contracts import facts, rows
from ebbgate_resolver.core.rules import policies, routes
from tests.unit import resolver_objects as objects


def _policy(fact: facts.Policy) -> policies.Policy:
    parsed = policies.parse(fact, fact.name)
    assert isinstance(parsed, policies.Policy)
    return parsed


OLD = _policy(objects.policy("z", "10.0.0.0/8", "0.0.0.0/0", created="2024-01-01T00:00:00Z"))
NEW = _policy(objects.policy("a", "10.0.0.0/8", created="2025-01-01T00:00:00Z"))


def test_the_older_policy_wins_and_the_loser_is_told() -> None:
    merged, conflicts = routes.merge([NEW, OLD])
    assert merged["10.0.0.0/8"].policy == "z"
    assert conflicts == (routes.Conflict("a", "z", "10.0.0.0/8"),)


def test_of_the_same_age_the_smaller_name_wins() -> None:
    b, c = (_policy(objects.policy(name, "10.0.0.0/8")) for name in "bc")
    merged, _ = routes.merge([c, b])
    assert merged["10.0.0.0/8"].policy == "b"


def test_the_exclusion_wins_at_the_same_cidr() -> None:
    policy = _policy(objects.policy("p", "10.0.0.0/8", excludedCIDRs=["10.0.0.0/8", "10.1.0.0/16"]))
    merged, conflicts = routes.merge([policy])
    assert {cidr: route.action for cidr, route in merged.items()} == {
        "10.0.0.0/8": rows.Action.EXCLUDE,
        "10.1.0.0/16": rows.Action.EXCLUDE,
    }
    assert conflicts == ()


def test_the_id_of_a_set_does_not_depend_on_order() -> None:
    assert routes.set_id([OLD, NEW]) == routes.set_id([NEW, OLD]) != routes.set_id([OLD])


def test_chunks_are_small_and_lose_nothing() -> None:
    big = _policy(objects.policy("p", *(f"10.{i // 256}.{i % 256}.0/24" for i in range(1500))))
    merged, _ = routes.merge([big])
    chunks = routes.chunks([big], merged)
    assert all(len(row.routes) <= rows.ROUTES_PER_CHUNK for row in chunks.values())
    assert {route for row in chunks.values() for route in row.routes} == set(merged.values())
    assert all(row.policies == ("p",) for row in chunks.values())
