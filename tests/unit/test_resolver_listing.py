"""Listings are made from rows alone, by the conventions of Cilium's list."""

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_resolver.core import listing


def _plan(action: rows.Action, buckets: int = 0) -> dict[str, bytes]:
    paths = rows.Paths(paths=(rows.Path("gw", "10.0.0.1", 16),), buckets=(buckets,) * rows.BUCKETS)
    route = rows.Route("1.0.0.0/8", action, "u", "p")
    messages = {
        subjects.endpoint("n", "10.1.0.1"): rows.Endpoint(ip="10.1.0.1", set="s", bucket=3, pod="d/p"),
        subjects.endpoint("n", "fd00::1"): rows.Endpoint(ip="fd00::1", set="s", bucket=3, pod="d/p"),
        subjects.routes("s", 0): rows.Routes(policies=("p",), routes=(route,)),
        subjects.group("u"): rows.Group(policy="p", ipv4=paths),
        subjects.egress("gw", 16): rows.Egress(egress_ip="192.0.2.1"),
        subjects.WRITER: rows.Writer(epoch=1, revision=1),
    }
    return {subject: codec.encode(message) for subject, message in messages.items()}


def _one(plan: dict[str, bytes], node: str | None) -> tuple[str, str]:
    (entry,) = listing.entries(plan, node)
    assert (entry.source, entry.destination) == ("10.1.0.1", "1.0.0.0/8")
    return entry.egress_ip, entry.gateway_ip


def test_the_egress_ip_is_shown_on_its_gateway_only() -> None:
    plan = _plan(rows.Action.STEER)
    assert _one(plan, "gw") == ("192.0.2.1", "10.0.0.1")
    assert _one(plan, "n") == ("0.0.0.0", "10.0.0.1")
    assert _one(plan, None) == ("192.0.2.1", "10.0.0.1")


def test_an_exclusion_shows_the_egress_ip_of_its_policy() -> None:
    plan = _plan(rows.Action.EXCLUDE)
    assert _one(plan, "gw") == ("192.0.2.1", listing.EXCLUDED)
    assert _one(plan, "n") == ("0.0.0.0", listing.EXCLUDED)


def test_no_path_no_group_and_drop_show_no_gateway() -> None:
    without_group = _plan(rows.Action.STEER)
    del without_group[subjects.group("u")]
    for plan in (_plan(rows.Action.STEER, rows.NO_PATH), without_group, _plan(rows.Action.DROP)):
        assert _one(plan, "gw") == ("0.0.0.0", listing.NOT_FOUND)


def test_an_endpoint_whose_set_is_missing_shows_nothing() -> None:
    plan = _plan(rows.Action.STEER)
    del plan[subjects.routes("s", 0)]
    assert listing.entries(plan) == []
