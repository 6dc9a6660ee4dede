"""The hunt's small cluster as values, and the oracle: which sources may a pod's packets have outside?

Pure. Written from docs/policies.md, naively: no sets, groups, slots or gates, and nothing of the resolver's.
A state answers for one pod and one destination; None among the answers means "dropped".
"""

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ebbgate_lab import topology

FAMILIES = ("ipv4", "ipv6")


def family(text: str) -> str:
    """Of an address or a CIDR."""
    return "ipv6" if ":" in text else "ipv4"


def _both(*addresses: str) -> tuple[str, ...]:
    return (*addresses, *map(topology.twin, addresses))


NODES = {"node1": _both("10.168.60.11"), "node2": _both("10.168.60.12"), "node3": _both("10.168.60.14")}
EGRESS_IPS = {
    "node1": (),
    "node2": _both("10.168.60.100", "10.168.60.101"),
    "node3": _both("10.168.60.110", "10.168.60.111"),
}
DESTINATIONS = _both("10.168.60.13", "10.168.60.200", "10.168.60.201")
"""The outside host's addresses: what is steered, excluded or neither differs between them."""
CIDRS = (
    "0.0.0.0/0",
    "10.168.60.0/24",
    "10.168.60.13/32",
    "10.168.60.192/26",
    "10.168.60.200/31",
    "10.168.60.201/32",
    "::/0",
    "fd00:10:168:60::/64",
    "fd00:10:168:60::13/128",
    "fd00:10:168:60::200/120",
    "fd00:10:168:60::200/127",
    "fd00:10:168:60::201/128",
)
PODS = (
    topology.Pod("pod0", "node1", "10.244.1.10"),
    topology.Pod("pod1", "node1", "10.244.1.11"),
    topology.Pod("pod2", "node1", "10.244.1.12"),
    topology.Pod("pod3", "node2", "10.244.2.10"),
    topology.Pod("pod4", "node3", "10.244.3.10"),
)
"""Places for pods: a namespace and an address, in which one Kubernetes pod follows the other."""
TEAMS = ("red", "red", "blue", "blue", "none")
SELECTS = {"red": ("red",), "blue": ("blue",), "wide": ("red", "blue")}
"""Policies by name, oldest first, and the teams whose pods they choose."""
ROLES = ("a", "b")
INTERFACE = "eth0"


class Gateway(msgspec.Struct, frozen=True):
    """One of a policy's `egressGateways`. `egress_ip`: empty means the first address of INTERFACE."""

    role: str
    egress_ip: str


class Policy(msgspec.Struct, frozen=True):
    """`number`: of the Kubernetes object; one that comes back is another."""

    number: int
    destinations: tuple[str, ...]
    excluded: tuple[str, ...]
    gateways: tuple[Gateway, ...]


class Pod(msgspec.Struct, frozen=True):
    """`number`: of the Kubernetes object; a higher one is newer."""

    number: int
    team: str


class State(msgspec.Struct, frozen=True):
    """By name of policy, node, node, and pod's place; who isn't there is absent. `roles`: of Node objects.
    `addresses`: of INTERFACE, in the kernel's order, where a new IPv4 address comes last and a new IPv6 one
    first. `left`: of nodes without a Node object, the last state in which they had one.
    """

    policies: Mapping[str, Policy]
    roles: Mapping[str, tuple[str, ...]]
    addresses: Mapping[str, tuple[str, ...]]
    pods: Mapping[str, Pod]
    left: Mapping[str, "State"] = {}


def of_family(addresses: Iterable[str], wanted: str) -> tuple[str, ...]:
    return tuple(address for address in addresses if family(address) == wanted)


def node_ip(node: str, destination: str) -> str:
    """What pods that nobody steers have outside: the CNI's masquerade."""
    (own,) = of_family(NODES[node], family(destination))
    return own


def answers(state: State, place: topology.Pod, destination: str) -> frozenset[str | None]:
    """Sources that a packet may have in `state`, once it is in force everywhere.

    | the pod's node | |
    |---|---|
    | has a Node object | what policies say |
    | has none | its pods are nobody's; if its programmer couldn't be told so, it still is as when it left |
    """
    if place.node in state.roles:
        return _obeyed(state, place, destination)
    stale = _obeyed(state.left[place.node], place, destination)
    return stale | {node_ip(place.node, destination)}


def _obeyed(state: State, place: topology.Pod, destination: str) -> frozenset[str | None]:
    pod = state.pods.get(place.name)
    decisive = max(_claims(state, pod, destination), default=None) if pod else None
    if decisive is None or decisive.excluded:
        return frozenset({node_ip(place.node, destination)})
    gateways = state.policies[decisive.policy].gateways
    return frozenset(_egress_ip(state, gateway, family(destination)) for gateway in gateways)


class _Claim(msgspec.Struct, frozen=True, order=True):
    """What a policy says about a destination. The greatest decides: the narrowest CIDR, then the oldest
    policy, then an exclusion before a destination of the same policy.
    """

    length: int
    seniority: int
    excluded: bool
    policy: str


def _claims(state: State, pod: Pod, destination: str) -> Iterator[_Claim]:
    for age, (name, teams) in enumerate(SELECTS.items()):
        policy = state.policies.get(name)
        if policy is None or pod.team not in teams:
            continue
        for cidr in policy.destinations:
            if _within(destination, cidr):
                yield _Claim(_length(cidr), -age, False, name)
        for cidr in policy.excluded:
            # An exclusion outside of all destinations of its own policy does nothing.
            inside = any(_within(cidr, outer) for outer in policy.destinations)
            if inside and _within(destination, cidr):
                yield _Claim(_length(cidr), -age, True, name)


def _egress_ip(state: State, gateway: Gateway, wanted: str) -> str | None:
    """The first node by name that has the role and can serve; None, which drops, if none can. With an egress
    IP of the other family it is the first address of that one's interface.
    """
    matching = [name for name in sorted(NODES) if gateway.role in state.roles.get(name, ())]
    if gateway.egress_ip:
        matching = [name for name in matching if gateway.egress_ip in state.addresses[name]]
    if not matching:
        return None
    if gateway.egress_ip and family(gateway.egress_ip) == wanted:
        return gateway.egress_ip
    return next(iter(of_family(state.addresses[matching[0]], wanted)), None)


def _within(inner: str, outer: str) -> bool:
    """Of one family, and a part of it. An address is a network of one."""
    return family(inner) == family(outer) and _network(inner).subnet_of(_network(outer))  # type: ignore[arg-type]


@functools.cache
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


def _length(cidr: str) -> int:
    return int(cidr.partition("/")[2])
