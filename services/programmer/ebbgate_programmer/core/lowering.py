"""Desired → KernelState: from what is wanted of a node to what its kernel must hold.

Stateless: the ids of sets and groups in BPF are hashes of their content and of the policy's uid, so that the
same rows are the same state after any restart. A set whose content changes gets a new id and stands beside
the old one until endpoints have been moved over; a group keeps its id and its paths are overwritten.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import digests, rows
from ebbgate_bus.contracts.reports import Problem
from ebbgate_programmer.core import cidrs, firewall, marks, places
from ebbgate_programmer.core.desired import Desired
from ebbgate_programmer.core.kernelstate import (
    Action,
    Device,
    EndpointValue,
    KernelState,
    PathKey,
    PathValue,
    RouteKey,
    RouteValue,
    Rule,
    Way,
)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What lowering must know of the node. `object_hash`: of the BPF object at hand.

    `interfaces`: names that exist (alternative name → name, and each name to itself).
    """

    node: str
    underlay_mtu: int = places.DEFAULT_MTU
    port: int = places.PORT
    object_hash: str = ""
    interfaces: Mapping[str, str] = {}


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    """`policies`: group id → policy, to say whose a path is."""

    state: KernelState
    policies: Mapping[int, str] = {}
    problems: tuple[Problem, ...] = ()


_ACTIONS = {
    rows.Action.STEER: Action.STEER,
    rows.Action.EXCLUDE: Action.EXCLUDE,
    rows.Action.DROP: Action.DROP,
}


def lower(desired: Desired, environment: Environment) -> Lowered:
    """Everything of ours that the kernel must hold for `desired`."""
    problems = list(desired.problems)
    v4 = [row for row in desired.endpoints if _is_v4(row.ip)]
    used = {row.set for row in v4 if row.set in desired.sets}
    set_ids = {name: set_id(desired.sets[name]) for name in used}
    problems += [
        Problem(reason=f"{row.pod}: its set {row.set} isn't in the plan, its traffic is dropped")
        for row in desired.endpoints
        if row.set not in desired.sets
    ]
    interfaces, unknown = _interfaces(desired.egress, environment.interfaces)
    covered6 = _covered6(desired)
    problems += [*unknown, *(_no_ipv6(ip) for ip in sorted(covered6))]
    state = msgspec.structs.replace(
        static(environment, interfaces),
        covered=frozenset([*(row.ip for row in v4), *(ip for ip in desired.blind if _is_v4(ip))]),
        covered6=covered6,
        cluster=cidrs.collapse(cidr for cidr in desired.cluster if ":" not in cidr),
        cluster6=cidrs.collapse(cidr for cidr in desired.cluster if ":" in cidr),
        egress={slot: row.egress_ip for slot, row in desired.egress.items() if _is_v4(row.egress_ip)},
        endpoints={row.ip: EndpointValue(set_ids[row.set], row.bucket) for row in v4 if row.set in set_ids},
        routes=_routes(desired, set_ids),
        paths=_paths(desired, v4),
        peers=frozenset(filter(_is_v4, desired.peers)),
    )
    policies = {group_id(uid): row.policy for uid, row in desired.groups.items()}
    return Lowered(state=state, policies=policies, problems=tuple(problems))


def static(environment: Environment, interfaces: Iterable[str] = ()) -> KernelState:
    """What is there whatever the plan says. `interfaces`: those with egress IPs, whose rp_filter is loose."""
    loose = [places.DEVICE, *interfaces]
    return KernelState(
        device=device(environment),
        programs=environment.object_hash,
        sysctls={places.rp_filter(name): places.RP_FILTER_LOOSE for name in sorted(loose)},
        rules=_RULES,
        ways=_ways(program_name(environment.object_hash)),
        chains=firewall.signature(firewall.chains(environment.port)),
    )


def device(environment: Environment) -> Device:
    """MAC and address come from the node's name: the same after any restart, different on each node."""
    seed = hashlib.blake2b(environment.node.encode(), digest_size=7).digest()
    mac = ":".join(f"{byte:02x}" for byte in (0x02, *seed[:5]))
    # 169.254.0.0/24 and 169.254.255.0/24 are reserved (RFC 3927), 169.254.169.254 is the metadata service.
    third = 1 + seed[5] % 160
    return Device(
        mac=mac,
        mtu=environment.underlay_mtu - places.TUNNEL_OVERHEAD,
        address=f"169.254.{third}.{seed[6]}/32",
        form=device_form(environment.port),
    )


def device_form(port: int) -> str:
    return f"vxlan external nolearning noarp port {port}"


def program_name(object_hash: str) -> str:
    return f"{places.PROGRAM_PREFIX}{object_hash}"


def set_id(routes: tuple[rows.Route, ...]) -> int:
    parts = [text for route in routes for text in (route.cidr, route.action.value, route.group)]
    return int(digests.short_hash("set", *parts), 16)


def group_id(uid: str) -> int:
    return int(digests.short_hash("group", uid), 16)


_RULES = frozenset(
    Rule(priority, marks.mark_of(field), marks.MASK, table)
    for priority, field, table in (
        (places.PRIORITY_CLASSIFY, marks.RECLASS, places.TABLE_CLASSIFY),
        (places.PRIORITY_STEER, marks.STEER, places.TABLE_TUNNEL),
        (places.PRIORITY_REPLY, marks.REPLY, places.TABLE_TUNNEL),
    )
)


def _ways(program: str) -> frozenset[Way]:
    return frozenset(
        (
            Way(places.TABLE_CLASSIFY, places.METRIC_FIRST, places.DEVICE, program),
            Way(places.TABLE_CLASSIFY, places.METRIC_BLACKHOLE),
            Way(places.TABLE_TUNNEL, places.METRIC_FIRST, places.DEVICE),
            Way(places.TABLE_TUNNEL, places.METRIC_BLACKHOLE),
        )
    )


def _routes(desired: Desired, set_ids: Mapping[str, int]) -> dict[RouteKey, RouteValue]:
    routes: dict[RouteKey, RouteValue] = {}
    for name, number in set_ids.items():
        for route in desired.sets[name]:
            if _is_v4(route.cidr):
                network = ipaddress.IPv4Network(route.cidr)
                key = RouteKey(number, int(network.network_address), network.prefixlen)
                routes[key] = RouteValue(_ACTIONS[route.action], group_id(route.group) if route.group else 0)
    return routes


def _paths(desired: Desired, endpoints: Iterable[rows.Endpoint]) -> dict[PathKey, PathValue]:
    """Only of the (group, bucket) pairs that a local pod can ask for: a node has few of the plan's."""
    asked = {
        (route.group, row.bucket)
        for row in endpoints
        for route in desired.sets.get(row.set, ())
        if route.action is rows.Action.STEER
    }
    paths: dict[PathKey, PathValue] = {}
    for uid, bucket in asked:
        path = _path(desired.groups.get(uid), bucket)
        if path is not None:
            local = path.node == desired.node
            # A slot of ours without an egress row has no address: its path is none, and drops.
            if not local or path.slot in desired.egress:
                paths[PathKey(group_id(uid), bucket)] = PathValue(path.gateway_ip, path.slot, local)
    return paths


def _path(group: rows.Group | None, bucket: int) -> rows.Path | None:
    if group is None or group.ipv4 is None or not 0 <= bucket < len(group.ipv4.buckets):
        return None
    chosen = group.ipv4.buckets[bucket]
    if not 0 <= chosen < len(group.ipv4.paths):
        return None
    path = group.ipv4.paths[chosen]
    return path if path.slot >= rows.SLOT_MIN and _is_v4(path.gateway_ip) else None


def _interfaces(
    egress: Mapping[int, rows.Egress], known: Mapping[str, str]
) -> tuple[set[str], list[Problem]]:
    """Interfaces with egress IPs, by their first names, and a Problem for each that doesn't exist."""
    wanted = {row.interface: row for row in egress.values() if row.interface}
    problems = [
        Problem(reason=f"interface {name} of {row.egress_ip} doesn't exist", policy=",".join(row.policies))
        for name, row in sorted(wanted.items())
        if name not in known
    ]
    return {known[name] for name in wanted if name in known}, problems


def _covered6(desired: Desired) -> frozenset[str]:
    """Pods whose IPv6 traffic a policy wants: those of a set with an IPv6 route, or of an unreadable one."""
    wanted = [
        row.ip
        for row in desired.endpoints
        if not _is_v4(row.ip)
        and any(not _is_v4(route.cidr) for route in desired.sets.get(row.set, (_ANY_IPV6,)))
    ]
    return frozenset([*wanted, *(ip for ip in desired.blind if not _is_v4(ip))])


_ANY_IPV6 = rows.Route("::/0", rows.Action.DROP, "", "")


def _no_ipv6(ip: str) -> Problem:
    return Problem(reason=f"{ip}: IPv6 isn't steered yet, its traffic out of the cluster is dropped")


def _is_v4(text: str) -> bool:
    return bool(text) and ":" not in text
