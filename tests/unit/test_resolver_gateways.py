"""Gateways: the first node by name that can serve, egress IPs by family, buckets by rendezvous."""

from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import facts, rows, subjects
from ebbgate_resolver.core.rules import gate, gateways, policies
from tests.unit import resolver_objects as objects

YES = {"gw": "yes"}


def _choose(policy: facts.Policy, *known: Any) -> tuple[gateways.Gateway, ...]:
    parsed = policies.parse(policy, policy.name)
    assert isinstance(parsed, policies.Policy)
    return gateways.choose(parsed, objects.inventory_of(*known))


def _ips(found: tuple[gateways.Gateway, ...]) -> list[dict[str, str]]:
    return [{family: address.ip for family, address in each.egress.items()} for each in found]


def test_a_node_that_can_serve_goes_before_an_earlier_one_that_cannot() -> None:
    a, b = objects.node("a", "10.0.0.1", **YES), objects.node("b", "10.0.0.2", **YES)
    policy = objects.policy("p", "0.0.0.0/0")
    assert [each.node for each in _choose(policy, a, b, objects.network("b", "10.0.0.2/24"))] == ["b"]


def test_if_none_can_serve_the_first_by_name_drops() -> None:
    a, b = objects.node("a", "10.0.0.1", **YES), objects.node("b", "10.0.0.2", **YES)
    found = _choose(objects.policy("p", "0.0.0.0/0"), b, a)
    assert [(each.node, each.egress) for each in found] == [("a", {})]


@pytest.mark.parametrize(
    ("own", "gateway_ip"),
    [(("fd00::1",), "fd00::1"), (("fd00::1", "10.0.0.9"), "10.0.0.9"), (("10.0.0.9",), "10.0.0.9")],
)
def test_traffic_is_sent_to_a_nodes_ipv4_or_where_it_has_none_to_its_ipv6(
    own: tuple[str, ...], gateway_ip: str
) -> None:
    node = msgspec.structs.replace(objects.node("a", "10.0.0.1", **YES), internal_ips=own)
    found = _choose(objects.policy("p", "0.0.0.0/0"), node, objects.network("a", "10.0.0.1/24"))
    assert [each.gateway_ip for each in found] == [gateway_ip]


def test_a_node_without_internal_address_is_no_gateway() -> None:
    node = msgspec.structs.replace(objects.node("a", "10.0.0.1", **YES), internal_ips=())
    assert _choose(objects.policy("p", "0.0.0.0/0"), node, objects.network("a", "10.0.0.1/24")) == ()


def test_network_of_a_node_that_is_gone_is_ignored() -> None:
    assert _choose(objects.policy("p", "0.0.0.0/0"), objects.network("a", "10.0.0.1/24")) == ()


@pytest.mark.parametrize(
    ("wanted", "ips"),
    [
        ({"interface": "eth0"}, {"ipv4": "10.0.0.1", "ipv6": "2001:db8::1"}),
        ({"interface": "altname0"}, {"ipv4": "10.0.0.1", "ipv6": "2001:db8::1"}),
        ({"interface": "eth9"}, {}),
        ({"egressIP": "10.0.0.9"}, {"ipv4": "10.0.0.9", "ipv6": "2001:db8::1"}),
        ({"egressIP": "2001:DB8::0:1"}, {"ipv4": "10.0.0.1", "ipv6": "2001:db8::1"}),
        ({"egressIP": "10.0.0.77"}, {}),
        ({}, {"ipv4": "10.0.0.1"}),
    ],
)
def test_egress_ips_by_family(wanted: dict[str, str], ips: dict[str, str]) -> None:
    net = objects.network(
        "a", "10.0.0.1/24", "10.0.0.9/24", "2001:db8::1/64", alt_names=("altname0",), default_route=("ipv4",)
    )
    gateway = {"nodeSelector": {"matchLabels": YES}} | wanted
    policy = objects.policy("p", "0.0.0.0/0", "::/0", egressGateway=gateway)
    found = _choose(policy, objects.node("a", "10.0.0.1", **YES), net)
    assert _ips(found) == [ips]


def test_a_family_without_destinations_gets_no_egress_ip() -> None:
    net = objects.network("a", "10.0.0.1/24", "2001:db8::1/64")
    found = _choose(objects.policy("p", "1.0.0.0/8"), objects.node("a", "10.0.0.1", **YES), net)
    assert _ips(found) == [{"ipv4": "10.0.0.1"}]


def test_of_several_gateways_those_that_cannot_serve_are_left_out_while_another_can() -> None:
    choices = [{"nodeSelector": {"matchLabels": {"n": n}}} for n in ("a", "b", "none")]
    policy = objects.policy("p", "0.0.0.0/0", egressGateways=choices)
    a, b = objects.node("a", "10.0.0.1", n="a"), objects.node("b", "10.0.0.2", n="b")
    assert [each.node for each in _choose(policy, a, b)] == ["a", "b"]
    assert [each.node for each in _choose(policy, a, b, objects.network("b", "10.0.0.2/24"))] == ["b"]


def test_a_node_chosen_twice_is_one_gateway_for_each_of_its_egress_ips() -> None:
    choice = {"nodeSelector": {"matchLabels": YES}}
    several = [choice, choice | {"egressIP": "10.0.0.7"}, choice | {"egressIP": "10.0.0.1"}]
    policy = objects.policy("p", "0.0.0.0/0", egressGateways=several)
    network = objects.network("a", "10.0.0.1/24", "10.0.0.7/24")
    found = _choose(policy, objects.node("a", "10.0.0.1", **YES), network)
    assert [(each.key, each.egress["ipv4"].ip) for each in found] == [
        ("a#0", "10.0.0.1"),
        ("a#1", "10.0.0.7"),
    ]


def _gateways(*names: str) -> list[gateways.Gateway]:
    return [gateways.Gateway(f"{name}#0", name, "10.0.0.1") for name in names]


def test_a_lost_gateway_moves_its_own_buckets_only() -> None:
    three, two = gateways.share(_gateways("a", "b", "c")), gateways.share(_gateways("a", "c"))
    assert all(new == old for old, new in zip(three, two, strict=True) if old != "b#0")
    assert set(three) == {"a#0", "b#0", "c#0"}


def test_without_gateways_no_bucket_has_one() -> None:
    assert gateways.share([]) == ("",) * rows.BUCKETS


def test_an_old_path_to_a_node_that_is_not_alone_at_its_address_does_not_stand() -> None:
    known = objects.inventory_of(
        objects.node("old", "10.0.0.1"),
        objects.node("new", "10.0.0.2"),
        objects.network("old", "192.0.2.1/24"),
    )
    at_old = gate.Gate(known, {("old", 16): rows.Egress(egress_ip="192.0.2.1", interface="eth0")})
    before = rows.Paths(paths=(rows.Path("old", "10.0.0.1", 16),), buckets=(0,) * rows.BUCKETS)
    aims = [gate.Aim("new", "10.0.0.2", 17, "192.0.2.2")] * rows.BUCKETS
    assert gate.paths(at_old, aims, gate.Old(before, same_traffic=True))[0] == before
    known.fold(subjects.fact("node", "twin"), objects.node("twin", "10.0.0.1"))
    (path,) = gate.paths(at_old, aims, gate.Old(before, same_traffic=True))[0].paths
    assert path == rows.Path("new", "10.0.0.2", rows.NO_SLOT)
