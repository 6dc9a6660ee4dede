"""Desired → KernelState: from what is wanted of a node to what its kernel must hold.

Stateless: the ids of sets and groups in BPF are hashes of their content and of the policy's uid, so that the
same rows are the same state after any restart. A set whose content changes gets a new id and stands beside
the old one until endpoints have been moved over; a group keeps its id and its paths are overwritten.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from ebbgate_bus.contracts import digests, rows
from ebbgate_bus.contracts.reports import Problem
from ebbgate_programmer.core import addresses, cidrs, firewall, marks, places, traffic, uplinks
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
    """What lowering must know of the node. `object_hash`: of the BPF object at hand. `direct`: whether tunnel
    packets may go past the stack.

    `interfaces`: names that exist (alternative name → name, and each name to itself). `ethernet`: by name,
    interfaces with addresses. `families`: that this kernel can route.
    """

    node: str
    underlay_mtu: int = places.DEFAULT_MTU
    port: int = places.PORT
    object_hash: str = ""
    direct: bool = True
    interfaces: Mapping[str, str] = {}
    ethernet: Mapping[str, uplinks.Uplink] = {}
    families: tuple[str, ...] = addresses.FAMILIES


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    """`names`: whose the numbers in `state` are."""

    state: KernelState
    names: traffic.Names = traffic.Names()
    problems: tuple[Problem, ...] = ()


_ACTIONS = {
    rows.Action.STEER: Action.STEER,
    rows.Action.EXCLUDE: Action.EXCLUDE,
    rows.Action.DROP: Action.DROP,
}


def lower(desired: Desired, environment: Environment) -> Lowered:
    """Everything of ours that the kernel must hold for `desired`."""
    contents = _contents(desired)
    set_ids = {at: set_id(routes, at[1]) for at, routes in contents.items()}
    # What of a lost set isn't known is wanted, and dropped.
    wanted = [row for row in desired.endpoints if contents.get(_place(row), True)]
    paths = _paths(desired, contents)
    egress = {slot: row.egress_ip for slot, row in desired.egress.items()}
    interfaces, unknown = _interfaces(desired.egress, environment.interfaces)
    leaving = uplinks.lower(interfaces, paths.values(), environment.ethernet)
    base = static(environment, interfaces.values(), of_underlay=underlay(desired.peers))
    cluster = cidrs.collapse(desired.cluster)
    state = msgspec.structs.replace(
        base,
        rules=base.rules | leaving.rules,
        ways=base.ways | leaving.ways,
        covered=frozenset([*(row.ip for row in wanted), *desired.blind]),
        cluster=cluster,
        egress=egress,
        uplinks=leaving.classes,
        endpoints={
            row.ip: EndpointValue(set_ids[_place(row)], row.bucket)
            for row in wanted
            if row.set in desired.sets
        },
        routes=_routes(contents, set_ids),
        paths=paths,
        internal=cidrs.collapse([*cluster, *places.NEVER["ipv4"], *places.NEVER["ipv6"]]),
        sources=frozenset(egress.values()),
        peers=frozenset(desired.peers),
        own=frozenset(desired.own),
    )
    problems = (*desired.problems, *_lacking(desired), *unknown, *leaving.problems)
    return Lowered(state=state, names=_names(desired), problems=problems)


def _names(desired: Desired) -> traffic.Names:
    families = addresses.FAMILIES
    return traffic.Names(
        policies={
            group_id(uid, family): row.policy for uid, row in desired.groups.items() for family in families
        },
        pods={row.ip: row.pod for row in desired.endpoints},
        slots=desired.egress,
    )


def underlay(peers: Iterable[str]) -> str:
    """One node without IPv4 is enough to need the room of an IPv6 header."""
    return "ipv6" if "ipv6" in set(map(addresses.family, peers)) else "ipv4"


def static(
    environment: Environment, interfaces: Collection[str] = (), *, of_underlay: str = "ipv4"
) -> KernelState:
    """What is there whatever the plan says. `interfaces`: those with egress IPs, whose rp_filter is loose.
    `of_underlay`: family of the tunnel's outer packets.
    """
    loose = [places.DEVICE, *interfaces]
    return KernelState(
        device=device(environment, of_underlay),
        loaded=environment.object_hash,
        programs=environment.object_hash,
        guarded=frozenset(
            name for name, uplink in environment.ethernet.items() if uplink.is_default or name in interfaces
        ),
        direct=environment.port if environment.direct else 0,
        sysctls={places.rp_filter(name): places.RP_FILTER_LOOSE for name in sorted(set(loose))},
        rules=frozenset(rule for rule in _RULES if rule.family in environment.families),
        ways=_ways(program_name(environment.object_hash), environment.families),
        chains=firewall.signature(firewall.chains(environment.port)),
    )


def device(environment: Environment, of_underlay: str = "ipv4") -> Device:
    """MAC and address come from the node's name: the same after any restart, different on each node."""
    seed = hashlib.blake2b(environment.node.encode(), digest_size=7).digest()
    mac = ":".join(f"{byte:02x}" for byte in (0x02, *seed[:5]))
    # 169.254.0.0/24 and 169.254.255.0/24 are reserved (RFC 3927), 169.254.169.254 is the metadata service.
    third = 1 + seed[5] % 160
    return Device(
        mac=mac,
        mtu=environment.underlay_mtu - places.TUNNEL_OVERHEAD[of_underlay],
        address=f"169.254.{third}.{seed[6]}/32",
        form=device_form(environment.port),
    )


def device_form(port: int) -> str:
    return f"vxlan external nolearning noarp port {port}"


def program_name(object_hash: str) -> str:
    return f"{places.PROGRAM_PREFIX}{object_hash}"


Place = tuple[str, str]
"""(set, family). Families apart: ::/0 would be the longest prefix of any IPv4 address too."""
Contents = Mapping[Place, Sequence[rows.Route]]


def _place(row: rows.Endpoint) -> Place:
    return row.set, addresses.family(row.ip)


def _contents(desired: Desired) -> Contents:
    """The routes of each place that an endpoint is in. All that follows goes over these or over endpoints,
    never over the one for each of the other: a node may have a thousand pods of a set of ten thousand routes.
    """
    used = {_place(row) for row in desired.endpoints if row.set in desired.sets}
    return {(name, family): _of_family(desired.sets[name], family) for name, family in used}


def set_id(routes: Iterable[rows.Route], family: str) -> int:
    parts = [text for route in routes for text in (route.cidr, route.action.value, route.group)]
    return int(digests.short_hash("set", family, *parts), 16)


def _of_family(routes: Iterable[rows.Route], family: str) -> list[rows.Route]:
    return [route for route in routes if addresses.family(route.cidr) == family]


def group_id(uid: str, family: str) -> int:
    """Of a policy's gateways for one family: their paths differ."""
    return int(digests.short_hash("group", family, uid), 16)


_RULES = frozenset(
    rule
    for family in addresses.FAMILIES
    for rule in (
        Rule(family, places.PRIORITY_TUNNEL, marks.STEER, marks.TUNNEL_MASK, places.TABLE_TUNNEL),
        Rule(family, places.PRIORITY_CLASSIFY, marks.RECLASS, marks.MASK, places.TABLE_CLASSIFY),
    )
)


def _ways(program: str, families: Iterable[str]) -> frozenset[Way]:
    return frozenset(
        way
        for family in families
        for way in (
            Way(family, places.TABLE_CLASSIFY, places.METRIC_FIRST, places.DEVICE, program),
            Way(family, places.TABLE_CLASSIFY, places.METRIC_BLACKHOLE),
            Way(family, places.TABLE_TUNNEL, places.METRIC_FIRST, places.DEVICE),
            Way(family, places.TABLE_TUNNEL, places.METRIC_BLACKHOLE),
        )
    )


def _routes(contents: Contents, set_ids: Mapping[Place, int]) -> dict[RouteKey, RouteValue]:
    routes: dict[RouteKey, RouteValue] = {}
    for place, of_place in contents.items():
        groups = {uid: group_id(uid, place[1]) if uid else 0 for uid in {route.group for route in of_place}}
        for route in of_place:
            key = RouteKey(set_ids[place], *addresses.prefix(route.cidr))
            routes[key] = RouteValue(_ACTIONS[route.action], groups[route.group])
    return routes


def _paths(desired: Desired, contents: Contents) -> dict[PathKey, PathValue]:
    """Only of the (group, bucket) pairs that a local pod can ask for: a node has few of the plan's."""
    steering = {
        place: {route.group for route in routes if route.action is rows.Action.STEER}
        for place, routes in contents.items()
    }
    asked = {
        (uid, place[1], bucket)
        for place, bucket in {(_place(row), row.bucket) for row in desired.endpoints}
        for uid in steering.get(place, ())
    }
    paths: dict[PathKey, PathValue] = {}
    for uid, family, bucket in asked:
        path = _path(desired.groups.get(uid), family, bucket)
        if path is not None:
            local = path.node == desired.node
            # A slot of ours without an egress row has no address: it drops.
            slot = path.slot if not local or path.slot in desired.egress else rows.NO_SLOT
            paths[PathKey(group_id(uid, family), bucket)] = PathValue(path.gateway_ip, slot, local)
    return paths


def _path(group: rows.Group | None, family: str, bucket: int) -> rows.Path | None:
    """None if no gateway is chosen, or none that could be sent to."""
    of_family = (group.ipv4 if family == "ipv4" else group.ipv6) if group else None
    if of_family is None or not 0 <= bucket < len(of_family.buckets):
        return None
    chosen = of_family.buckets[bucket]
    if not 0 <= chosen < len(of_family.paths):
        return None
    path = of_family.paths[chosen]
    try:
        addresses.number(path.gateway_ip)
    except ValueError:
        return None
    return path


def _interfaces(
    egress: Mapping[int, rows.Egress], known: Mapping[str, str]
) -> tuple[dict[int, str], list[Problem]]:
    """Slot → interface that holds its egress IP, by its first name; a Problem for each that doesn't exist."""
    unknown = {row.interface: row for row in egress.values() if row.interface not in ("", *known)}
    problems = [
        Problem(reason=f"interface {name} of {row.egress_ip} doesn't exist", policy=",".join(row.policies))
        for name, row in sorted(unknown.items())
    ]
    return {slot: known[row.interface] for slot, row in egress.items() if row.interface in known}, problems


def _lacking(desired: Desired) -> list[Problem]:
    return [
        Problem(reason=f"{row.pod}: its set {row.set} isn't in the plan, its traffic is dropped")
        for row in desired.endpoints
        if row.set not in desired.sets
    ]
