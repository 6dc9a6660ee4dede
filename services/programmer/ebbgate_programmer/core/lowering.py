"""Desired → KernelState: from what is wanted of a node to what its kernel must hold.

The plain way, in full: the reference of `incremental`, which is what runs. Stateless: the ids of sets and
groups in BPF are hashes of their content and of the policy's uid, so that the same rows are the same state
after any restart. A set whose content changes gets a new id and stands beside the old one until endpoints
have been moved over; a group keeps its id and its paths are overwritten.
"""

import functools
import hashlib
from collections.abc import Collection, Iterable, Mapping, Set

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
    """`names`: whose the numbers in `state` are. `families`: of which something here is to be forwarded."""

    state: KernelState
    families: frozenset[str] = frozenset()
    names: traffic.Names = traffic.Names()
    problems: tuple[Problem, ...] = ()


_ACTIONS = {
    rows.Action.STEER: Action.STEER,
    rows.Action.EXCLUDE: Action.EXCLUDE,
    rows.Action.DROP: Action.DROP,
}


NOTHING = KernelState()
Place = tuple[str, str]
"""(set, family). Families apart: ::/0 would be the longest prefix of any IPv4 address too."""


Start = tuple[Place, int]
"""Place and bucket: what look-ups of a pod begin with."""


class Content(msgspec.Struct, frozen=True, eq=False):
    """What is looked up of a place. `id`: the set's in BPF. `groups`: uids of those that it steers to."""

    id: int
    routes: Mapping[RouteKey, RouteValue]
    groups: frozenset[str]


class Asked(msgspec.Struct, frozen=True):
    """What local pods can ask for. `contents`: of places in use, but for those whose set is lost. `starts`:
    places and buckets in use.
    """

    contents: Mapping[Place, Content]
    starts: Set[Start]


def lower(desired: Desired, environment: Environment) -> Lowered:
    """Everything of ours that the kernel must hold for `desired`: the plain way, all of it anew."""
    asked = _asked(desired)
    framed = frame(desired, asked, environment)
    begins = {row.ip: begin(start(row), asked.contents) for row in desired.endpoints}
    state = msgspec.structs.replace(
        framed.state,
        covered=frozenset([*(ip for ip, at in begins.items() if at is not LEFT_ALONE), *desired.blind]),
        endpoints={ip: at for ip, at in begins.items() if at is not LEFT_ALONE and at is not None},
        routes={key: to for content in asked.contents.values() for key, to in content.routes.items()},
    )
    lacking = [lack(row) for row in desired.endpoints if begins[row.ip] is None]
    names = msgspec.structs.replace(framed.names, pods={row.ip: row.pod for row in desired.endpoints})
    return Lowered(
        state=state,
        families=framed.families | set(map(addresses.family, state.covered)),
        names=names,
        problems=(*desired.problems, *lacking, *framed.problems),
    )


LEFT_ALONE = EndpointValue(0, -1)
"""Where a pod's look-ups begin whose set has nothing for its family: nowhere, and it isn't covered."""


def begin(at: Start, contents: Mapping[Place, Content]) -> EndpointValue | None:
    """Where look-ups begin in the kernel. None: what of a lost set isn't known is wanted, and dropped."""
    place, bucket = at
    content = contents.get(place)
    if content is None:
        return None
    return EndpointValue(content.id, bucket) if content.routes else LEFT_ALONE


def lack(row: rows.Endpoint) -> Problem:
    return Problem(reason=f"{row.pod}: its set {row.set} isn't in the plan, its traffic is dropped")


def frame(desired: Desired, asked: Asked, environment: Environment) -> Lowered:
    """All but what is of single pods, or of single routes. Of `desired` neither endpoints nor sets count."""
    paths = _paths(desired, asked)
    egress = {slot: row.egress_ip for slot, row in desired.egress.items()}
    interfaces, unknown = _interfaces(desired.egress, environment.interfaces)
    leaving = uplinks.lower(interfaces, paths.values(), environment.ethernet)
    base = static(environment, interfaces.values(), of_underlay=underlay(desired.peers))
    state = msgspec.structs.replace(
        base,
        rules=base.rules | leaving.rules,
        ways=base.ways | leaving.ways,
        cluster=_collapsed(desired.cluster),
        egress=egress,
        uplinks=leaving.classes,
        paths=paths,
        internal=_collapsed((*desired.cluster, *places.NEVER["ipv4"], *places.NEVER["ipv6"])),
        sources=frozenset(egress.values()),
        peers=frozenset(desired.peers),
        own=frozenset(desired.own),
    )
    return Lowered(
        state=state,
        families=frozenset(map(addresses.family, egress.values())),
        names=_names(desired),
        problems=(*unknown, *leaving.problems),
    )


@functools.lru_cache(maxsize=2)
def _collapsed(cluster: tuple[str, ...]) -> frozenset[str]:
    """There may be thousands, and they change with the cluster's nodes, not with pods."""
    return cidrs.collapse(cluster)


def _names(desired: Desired) -> traffic.Names:
    families = addresses.FAMILIES
    return traffic.Names(
        policies={
            group_id(uid, family): row.policy for uid, row in desired.groups.items() for family in families
        },
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


def start(row: rows.Endpoint) -> Start:
    return (row.set, addresses.family(row.ip)), row.bucket


def _asked(desired: Desired) -> Asked:
    """All that follows goes over contents or over endpoints, never over the one for each of the other: a node
    may have a thousand pods of a set of ten thousand routes.
    """
    starts = {start(row) for row in desired.endpoints}
    used = {place for place, _ in starts if place[0] in desired.sets}
    contents = {(name, family): content(desired.sets[name], family) for name, family in used}
    return Asked(contents, starts)


def content(routes: Iterable[rows.Route], family: str) -> Content:
    """Of one family of a set."""
    own = [route for route in routes if addresses.family(route.cidr) == family]
    number = set_id(own, family)
    groups = {uid: group_id(uid, family) if uid else 0 for uid in {route.group for route in own}}
    # One object for all routes that lead to the same.
    values = functools.cache(RouteValue)
    return Content(
        id=number,
        routes={
            RouteKey(number, *addresses.prefix(route.cidr)): values(
                _ACTIONS[route.action], groups[route.group]
            )
            for route in own
        },
        groups=frozenset(route.group for route in own if route.action is rows.Action.STEER),
    )


def set_id(routes: Iterable[rows.Route], family: str) -> int:
    parts = [text for route in routes for text in (route.cidr, route.action.value, route.group)]
    return int(digests.short_hash("set", family, *parts), 16)


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


def _paths(desired: Desired, asked: Asked) -> dict[PathKey, PathValue]:
    """Only of the (group, bucket) pairs that a local pod can ask for: a node has few of the plan's."""
    wanted = {
        (uid, at[1], bucket)
        for at, bucket in asked.starts
        if at in asked.contents
        for uid in asked.contents[at].groups
    }
    paths: dict[PathKey, PathValue] = {}
    for uid, family, bucket in wanted:
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
