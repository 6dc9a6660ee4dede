"""Which nodes a policy's gateways are, and for each other node why it isn't: labels, address, egress IP.

Leg: a part of `explain`. Walks every item and every node by itself, without `gateways.choose`, so that the
two can be compared; only the hash that shares out buckets is common to both.
"""

from collections.abc import Iterable, Iterator

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_resolver.core import addresses, inventory
from ebbgate_resolver.core.people import explain_policies
from ebbgate_resolver.core.people.explanation import Why
from ebbgate_resolver.core.rules import gateways, policies

_NAMED_MAX = 8
"""Nodes that are explained one by one; of a cluster's thousands the rest is a number."""


class Found(msgspec.Struct, frozen=True):
    """`gateways`: those in use. `why`: for each item of the policy's list, what was found for it."""

    gateways: tuple[gateways.Gateway, ...]
    why: tuple[Why, ...]


class _Candidate(msgspec.Struct, frozen=True):
    node: str
    gateway_ip: str
    egress: dict[str, gateways.EgressAddress]
    obstacle: str = ""

    def is_same(self, other: "_Candidate") -> bool:
        """As a gateway: several items of a list may lead to one."""
        return (self.node, self.egress) == (other.node, other.egress)


def find(policy: policies.Policy, known: inventory.Inventory) -> Found:
    taken: list[_Candidate] = []
    why: list[Why] = []
    at = _at(known)
    for i, choice in enumerate(policy.gateways):
        candidates = [_candidate(choice, policy.families, (known, at), name) for name in sorted(known.nodes)]
        good = [each for each in candidates if each.egress]
        spare = [each for each in candidates if each.gateway_ip]
        taken += [each for each in (good or spare)[:1] if not any(map(each.is_same, taken))]
        title = f"choice of gateway {i}" if len(policy.gateways) > 1 else "choice of gateway"
        why.append(_why(title, candidates, good))
    keyed = tuple(_keyed(taken))
    return Found(tuple(each for each in keyed if each.egress) or keyed, tuple(why))


def _at(known: inventory.Inventory) -> dict[str, list[str]]:
    """Internal address → names of the nodes that have it."""
    found: dict[str, list[str]] = {}
    for name, node in sorted(known.nodes.items()):
        for ip in set(node.internal_ips):
            found.setdefault(ip, []).append(name)
    return found


def twins(ip: str, others: Iterable[str]) -> str:
    return f"its address {ip} is also that of {', '.join(others)}; delete the Node that is no more"


def _keyed(taken: list[_Candidate]) -> Iterator[gateways.Gateway]:
    """The gateways as the hash knows them: numbered where several items lead to one node, also over those
    that can't serve, so that nobody moves when one of these recovers.
    """
    seen: dict[str, int] = {}
    for each in taken:
        ordinal = seen[each.node] = seen.get(each.node, -1) + 1
        yield gateways.Gateway(f"{each.node}#{ordinal}", each.node, each.gateway_ip, each.egress)


def _candidate(
    choice: policies.GatewayChoice,
    families: tuple[str, ...],
    world: tuple[inventory.Inventory, dict[str, list[str]]],
    name: str,
) -> _Candidate:
    known, at = world
    node = known.nodes[name]
    if unmet := explain_policies.unmet_labels(choice.nodes, node.labels):
        return _Candidate(name, "", {}, "; ".join(unmet))
    own = sorted(node.internal_ips, key=lambda ip: ":" in ip)
    if not own:
        return _Candidate(name, "", {}, "it has no internal IP address")
    if others := [each for each in at[own[0]] if each != name]:
        return _Candidate(name, own[0], {}, twins(own[0], others))
    network = known.networks.get(name)
    egress = {family: found for family in families if (found := _egress(choice, network, family)) is not None}
    return _Candidate(name, own[0], egress, shortage(choice, network, families))


def _egress(
    choice: policies.GatewayChoice, network: facts.NodeNetwork | None, family: str
) -> gateways.EgressAddress | None:
    given = choice.egress_ip if addresses.family_of_text(choice.egress_ip) == family else ""
    for interface in _interfaces(choice, network, family):
        own = [ip for text in interface.addresses if (ip := addresses.interface_address(text))]
        of_family = [str(ip) for ip in own if addresses.family(ip) == family]
        if given in of_family or (of_family and not given):
            return gateways.EgressAddress(given or of_family[0], interface.name)
    return None


def _interfaces(
    choice: policies.GatewayChoice, network: facts.NodeNetwork | None, family: str
) -> list[facts.Interface]:
    """Those on which the egress IP may be found, by index."""
    every = sorted(network.interfaces, key=lambda each: each.index) if network else []
    if choice.interface:
        return [each for each in every if choice.interface in (each.name, *each.alt_names)]
    if choice.egress_ip:
        bare = [(each, [text.partition("/")[0] for text in each.addresses]) for each in every]
        return [
            each
            for each, own in bare
            if any(str(addresses.address(text)) == choice.egress_ip for text in own)
        ]
    return [each for each in every if family in each.default_route]


def shortage(
    choice: policies.GatewayChoice, network: facts.NodeNetwork | None, families: tuple[str, ...]
) -> str:
    """Why a node lacks an egress IP of one of `families`, or empty if it has them all."""
    if network is None:
        return "its programmer has not reported its network yet"
    lacking = [family for family in families if _egress(choice, network, family) is None]
    if not lacking:
        return ""
    listed = ", ".join(each.name for each in network.interfaces) or "none"
    if choice.interface and not _interfaces(choice, network, ""):
        return f"it has no interface {choice.interface}; it has: {listed}"
    if choice.egress_ip and not _interfaces(choice, network, ""):
        return f"{choice.egress_ip} is on none of its interfaces ({listed})"
    named = " and ".join({"ipv4": "IPv4", "ipv6": "IPv6"}[family] for family in lacking)
    if choice.interface or choice.egress_ip:
        where = _interfaces(choice, network, "")[0].name
        return f"its interface {where} has no usable {named} address"
    return f"no interface with a default route has a usable {named} address"


def _why(title: str, candidates: list[_Candidate], good: list[_Candidate]) -> Why:
    """The nodes whose labels match come first: they are what the author meant."""
    reasons = [
        Why(f"{each.node} can't: {each.obstacle}")
        for each in sorted(candidates, key=lambda each: (not each.gateway_ip, each.node))
        if each.obstacle and not each.egress
    ]
    rest = len(reasons) - _NAMED_MAX
    more = (Why(f"and {rest} more nodes that can't"),) if rest > 0 else ()
    chosen = (
        f"{good[0].node}, the first by name of {len(good)} that can serve" if good else "no node can serve"
    )
    return Why(f"{title}: {chosen}", (*reasons[:_NAMED_MAX], *more))
