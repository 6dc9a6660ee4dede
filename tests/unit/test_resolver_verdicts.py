"""Verdicts say what became of a policy, and name who is awaited or who won."""

from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import codec, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_resolver.core import engine
from tests.unit import resolver_objects as objects

GW = objects.node("gw", "10.0.0.1", gw="yes")
SRC = objects.node("src", "10.0.0.2")
NET = objects.network("gw", "10.0.0.1/24")
POD = objects.pod("a", "src", "10.1.0.1")
POLICY = objects.policy("p", "0.0.0.0/0")


def _verdict(resolver: engine.Resolver, name: str = "p") -> reports.Verdict:
    made = resolver.step(1.0)
    resolver.stored(made)
    found = {message.subject: message.payload for message in made.verdicts}
    verdict = codec.decode(subjects.verdict(name), found[subjects.verdict(name)])
    assert isinstance(verdict, reports.Verdict)
    return verdict


def _condition(verdict: reports.Verdict, type_: str) -> tuple[bool, str, str]:
    (found,) = [each for each in verdict.conditions if each.type == type_]
    return found.status is reports.Truth.TRUE, found.reason, found.message


def test_a_policy_on_its_way_and_arrived() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    verdict = _verdict(resolver)
    assert _condition(verdict, "Accepted")[:2] == (True, "Valid")
    assert _condition(verdict, "GatewayFound") == (True, "Found", "gw")
    assert _condition(verdict, "EgressIPReady") == (False, "AwaitingGateway", "not yet in the kernel of gw")
    assert _condition(verdict, "Programmed") == (False, "Waiting", "0 of 2 nodes; not yet applied by gw, src")
    assert _condition(verdict, "Conflict")[0] is False
    assert verdict.gateways == (
        reports.ServingGateway(node="gw", gateway_ip="10.0.0.1", egress_ips=("10.0.0.1",), pods=1),
    )
    assert (verdict.pods, verdict.nodes_wanted, verdict.nodes_programmed) == (1, ("gw", "src"), ())
    resolver.fold([objects.stored(objects.applied(resolver, "gw"))])
    assert _condition(_verdict(resolver), "EgressIPReady") == (True, "Ready", "10.0.0.1")
    resolver.fold([objects.stored(objects.applied(resolver, "src"))])
    verdict = _verdict(resolver)
    assert _condition(verdict, "Programmed")[:2] == (True, "Applied")
    assert _condition(verdict, "Programmed")[2] == "2 of 2 nodes"
    assert verdict.nodes_programmed == ("gw", "src")


def test_a_policy_stays_programmed_while_others_change() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    for _ in range(3):
        objects.step(resolver)
        resolver.fold([objects.stored(objects.applied(resolver, name)) for name in ("gw", "src")])
    objects.step(resolver)
    behind = [objects.stored(objects.applied(resolver, name, all_revision=0)) for name in ("gw", "src")]
    other = objects.policy("q", "1.0.0.0/8", selectors=[{"podSelector": {"matchLabels": {"no": "pod"}}}])
    resolver.fold([*behind, objects.stored(other), objects.stored(objects.node("n", "10.0.0.3"))])
    assert subjects.verdict("p") not in {message.subject for message in resolver.step(2.0).verdicts}
    resolver.fold([objects.stored(objects.pod("b", "src", "10.1.0.2"))])
    assert _condition(_verdict(resolver), "Programmed") == (
        False,
        "Waiting",
        "1 of 2 nodes; not yet applied by src",
    )


def test_a_rejected_update_names_field_reason_and_what_is_in_force() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    _verdict(resolver)
    bad = objects.policy("p", "nonsense")
    resolver.fold([objects.stored(_next(bad))])
    verdict = _verdict(resolver)
    accepted, reason, message = _condition(verdict, "Accepted")
    assert (accepted, reason) == (False, "Rejected")
    assert message.startswith("spec.destinationCIDRs[0]: 'nonsense' is not a CIDR")
    assert message.endswith("the last good version (generation 1) stays in force")
    assert (verdict.generation, verdict.in_force) == (2, 1)
    assert [each.type for each in verdict.conditions][1:] == [
        "GatewayFound",
        "EgressIPReady",
        "Programmed",
        "Conflict",
    ]


def _next(policy: Any) -> Any:
    """The next generation."""
    return msgspec.structs.replace(policy, generation=policy.generation + 1)


def test_a_policy_rejected_from_the_start_has_no_other_condition() -> None:
    verdict = _verdict(objects.resolver_of(GW, objects.policy("p", "nonsense")))
    assert [each.type for each in verdict.conditions] == ["Accepted"]
    assert _condition(verdict, "Accepted")[2].endswith("nothing of it is in force")


@pytest.mark.parametrize(
    ("known", "found", "reason"),
    [((SRC, POD), False, "NoEgressIP"), ((GW, SRC, POD), True, "NoEgressIP")],
)
def test_no_gateway_and_no_egress_ip(known: tuple[Any, ...], found: bool, reason: str) -> None:
    verdict = _verdict(objects.resolver_of(*known, POLICY))
    assert _condition(verdict, "GatewayFound")[0] is found
    assert _condition(verdict, "EgressIPReady")[:2] == (False, reason)


def test_one_family_without_egress_ip_is_named() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, objects.policy("p", "0.0.0.0/0", "::/0"))
    objects.step(resolver)
    resolver.fold([objects.stored(objects.applied(resolver, "gw"))])
    ready, reason, message = _condition(_verdict(resolver), "EgressIPReady")
    assert (ready, reason) == (False, "FamilyWithoutEgressIP")
    assert message == (
        "gw: no interface with a default route has a usable IPv6 address; ipv6 traffic to it is dropped"
    )


def test_a_lost_conflict_names_the_winner() -> None:
    old = objects.policy("z", "0.0.0.0/0", created="2024-01-01T00:00:00Z")
    objects_ = (GW, SRC, NET, POD, POLICY, old)
    made = objects.resolver_of(*objects_).step(1.0)
    assert [n.fields["winner"] for n in made.notes if n.event == "route.lost"] == ["z"]
    lost, reason, message = _condition(_verdict(objects.resolver_of(*objects_)), "Conflict")
    assert (lost, reason) == (True, "OlderPolicyWins")
    assert "0.0.0.0/0 (served by z)" in message


def test_out_of_slots_is_said_and_drops() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    reserved = [
        Stored(subjects.egress("gw", slot), b"", 1) for slot in range(rows.SLOT_MIN, rows.SLOT_MAX + 1)
    ]
    resolver.replace_plan(reserved, 0.0)
    made = resolver.step(1.0)
    resolver.stored(made)
    assert [note.fields["egress_ip"] for note in made.notes if note.event == "slots.exhausted"] == [
        "10.0.0.1"
    ]
    (message,) = made.verdicts
    verdict = codec.decode(message.subject, message.payload)
    assert isinstance(verdict, reports.Verdict)
    assert _condition(verdict, "EgressIPReady")[1] == "OutOfSlots"
    objects.step(resolver, 1.0 + engine.RESERVED_S)
    assert list(objects.egress_of(resolver).values()) == ["10.0.0.1"]


def test_the_verdict_of_a_policy_that_is_gone_goes() -> None:
    resolver = objects.resolver_of(GW, POLICY)
    _verdict(resolver)
    resolver.fold([objects.gone(POLICY)])
    made = resolver.step(2.0)
    assert [(message.subject, message.payload) for message in made.verdicts] == [(subjects.verdict("p"), b"")]


def test_long_lists_are_cut() -> None:
    nodes = [objects.node(f"n{i}", f"10.2.0.{i}") for i in range(9)]
    pods = [objects.pod(f"p{i}", f"n{i}", f"10.1.0.{i}") for i in range(9)]
    verdict = _verdict(objects.resolver_of(GW, NET, POLICY, *nodes, *pods))
    assert _condition(verdict, "Programmed")[2] == (
        "0 of 10 nodes; not yet applied by gw, n0, n1, n2, n3 and 5 more"
    )


@pytest.mark.parametrize(
    ("gateway", "said"),
    [
        ({"interface": "eth7"}, "gw: it has no interface eth7; it has: eth0"),
        ({"egressIP": "192.0.2.9"}, "gw: 192.0.2.9 is on none of its interfaces (eth0)"),
        ({"egressIP": "2001:db8::9"}, "gw: 2001:db8::9 is on none of its interfaces (eth0)"),
    ],
)
def test_what_the_gateway_lacks_is_said(gateway: dict[str, Any], said: str) -> None:
    spec = {"nodeSelector": {"matchLabels": {"gw": "yes"}}} | gateway
    verdict = _verdict(
        objects.resolver_of(GW, NET, POD, objects.policy("p", "0.0.0.0/0", egressGateway=spec))
    )
    assert _condition(verdict, "EgressIPReady") == (False, "NoEgressIP", f"{said}; the traffic is dropped")


def test_a_gateway_that_never_reported_is_said() -> None:
    message = _condition(_verdict(objects.resolver_of(GW, POD, POLICY)), "EgressIPReady")[2]
    assert message == "gw: its programmer has not reported its network yet; the traffic is dropped"


def test_what_a_node_could_not_do_is_in_the_verdict() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    objects.step(resolver)
    problems = (reports.Problem(reason="route map full", policy="p"), reports.Problem(reason="x", policy="q"))
    applied = msgspec.structs.replace(objects.applied(resolver, "src"), problems=problems)
    resolver.fold([objects.stored(applied)])
    assert _condition(_verdict(resolver), "Programmed") == (
        False,
        "NodeProblem",
        "1 of 2 nodes; src: route map full",
    )


def test_the_pods_of_a_policy_are_shared_out_among_its_gateways() -> None:
    nodes = [objects.node(f"g{i}", f"10.0.1.{i}", **{f"g{i}": "yes"}) for i in range(3)]
    nets = [objects.network(f"g{i}", f"192.0.2.{i}/24") for i in range(3)]
    several = [{"nodeSelector": {"matchLabels": {f"g{i}": "yes"}}} for i in range(3)]
    pods = [objects.pod(f"p{i}", "src", f"10.1.0.{i}", f"fd00::{i}") for i in range(60)]
    policy = objects.policy("p", "0.0.0.0/0", egressGateways=several)
    verdict = _verdict(objects.resolver_of(SRC, *nodes, *nets, *pods, policy))
    assert [each.node for each in verdict.gateways] == ["g0", "g1", "g2"]
    assert sum(each.pods for each in verdict.gateways) == verdict.pods == 60
    assert all(each.pods for each in verdict.gateways)


def test_items_that_lead_to_the_same_address_are_one_gateway() -> None:
    choice = {"nodeSelector": {"matchLabels": {"gw": "yes"}}}
    several = [choice, choice, choice | {"egressIP": "10.0.0.1"}, choice | {"egressIP": "10.0.0.7"}]
    policy = objects.policy("p", "0.0.0.0/0", egressGateways=several)
    verdict = _verdict(objects.resolver_of(GW, objects.network("gw", "10.0.0.1/24", "10.0.0.7/24"), policy))
    assert [each.egress_ips for each in verdict.gateways] == [("10.0.0.1",), ("10.0.0.7",)]


def test_a_gateway_whose_address_another_node_has_drops_and_it_is_said_once() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    objects.step(resolver)
    resolver.fold([objects.stored(objects.applied(resolver, "gw"))])
    objects.step(resolver)
    assert objects.group_of(resolver, "p").ipv4.paths[0].slot
    resolver.fold([objects.stored(objects.node("twin", "10.0.0.1"))])
    made = resolver.step(2.0)
    resolver.stored(made)
    said = [note.fields for note in made.notes if note.event == "node_ip.shared"]
    assert said == [
        {"ip": "10.0.0.1", "node": "gw", "others": "twin"},
        {"ip": "10.0.0.1", "node": "twin", "others": "gw"},
    ]
    assert objects.group_of(resolver, "p").ipv4.paths[0].slot == rows.NO_SLOT, "not even the path that it had"
    (verdict,) = [codec.decode(message.subject, message.payload) for message in made.verdicts]
    assert isinstance(verdict, reports.Verdict)
    reason, message = _condition(verdict, "EgressIPReady")[1:]
    assert reason == "NoEgressIP"
    assert message.startswith(
        "gw: its address 10.0.0.1 is also that of twin; delete the Node that is no more"
    )
    resolver.fold([objects.gone(objects.node("twin"))])
    resolver.stored(resolver.step(3.0))
    assert objects.group_of(resolver, "p").ipv4.paths[0].slot


def test_what_was_applied_of_a_plan_that_the_bus_lost_is_nothing_of_the_new_one() -> None:
    """Programmers say again what they have, with the old plan's revisions."""
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    resolver.replace_plan([], 1_000.0)
    objects.step(resolver, 1_000.0)
    for name in ("gw", "src"):
        report = objects.applied(resolver, name, all_revision=500_000)
        resolver.fold([objects.stored(msgspec.structs.replace(report, node_revision=500_000))])
    (verdict,) = (codec.decode(each.subject, each.payload) for each in resolver.step(1_001.0).verdicts)
    assert isinstance(verdict, reports.Verdict)
    assert verdict.nodes_programmed == ()
