"""The hunt's small cluster as values, and the oracle: which sources may a pod's packets have outside?

Pure. Written from docs/policies.md, naively: no sets, groups, slots or gates, and nothing of the resolver's.
A state answers for one pod and one destination; None among the answers means "dropped".
"""

import ipaddress
from collections.abc import Iterator, Mapping

import msgspec

from ebbgate_lab import topology

NODES = {"node1": "10.168.60.11", "node2": "10.168.60.12", "node3": "10.168.60.14"}
EGRESS_IPS = {
    "node1": (),
    "node2": ("10.168.60.100", "10.168.60.101"),
    "node3": ("10.168.60.110", "10.168.60.111"),
}
DESTINATIONS = ("10.168.60.13", "10.168.60.200", "10.168.60.201")
"""The outside host's addresses: what is steered, excluded or neither differs between them."""
CIDRS = (
    "0.0.0.0/0",
    "10.168.60.0/24",
    "10.168.60.13/32",
    "10.168.60.192/26",
    "10.168.60.200/31",
    "10.168.60.201/32",
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
    """By name of policy, node, node, and pod's place; who isn't there is absent."""

    policies: Mapping[str, Policy]
    roles: Mapping[str, tuple[str, ...]]
    addresses: Mapping[str, tuple[str, ...]]
    pods: Mapping[str, Pod]


def answers(state: State, place: topology.Pod, destination: str) -> frozenset[str | None]:
    """Sources that a packet may have in `state`, once it is in force everywhere."""
    pod = state.pods.get(place.name)
    decisive = max(_claims(state, pod, destination), default=None) if pod else None
    if decisive is None or decisive.excluded:
        return frozenset({NODES[place.node]})
    return frozenset(_egress_ip(state, gateway) for gateway in state.policies[decisive.policy].gateways)


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
            if _within(f"{destination}/32", cidr):
                yield _Claim(_length(cidr), -age, False, name)
        for cidr in policy.excluded:
            # An exclusion outside of all destinations of its own policy does nothing.
            inside = any(_within(cidr, outer) for outer in policy.destinations)
            if inside and _within(f"{destination}/32", cidr):
                yield _Claim(_length(cidr), -age, True, name)


def _egress_ip(state: State, gateway: Gateway) -> str | None:
    """The first node by name that has the role and can serve; None, which drops, if none can."""
    matching = [name for name in sorted(NODES) if gateway.role in state.roles.get(name, ())]
    if not gateway.egress_ip:
        return NODES[matching[0]] if matching else None
    can = any(gateway.egress_ip in state.addresses[name] for name in matching)
    return gateway.egress_ip if can else None


def _within(inner: str, outer: str) -> bool:
    return ipaddress.IPv4Network(inner).subnet_of(ipaddress.IPv4Network(outer))


def _length(cidr: str) -> int:
    return int(cidr.partition("/")[2])
