"""Rows as Cilium's users know them: source IP, destination CIDR, egress IP, gateway IP.

Leg: beside the walk, for people. Works from rows alone (subject → payload), as they are on the bus, so that
what it shows is what programmers are told. The conventions are those of `cilium-dbg bpf egress list`.
"""

from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_resolver.core import addresses
from ebbgate_resolver.core.rules import slots

NOT_FOUND = "0.0.0.0"
"""Gateway IP, also in IPv6 rows: no node can be the gateway, the traffic is dropped."""
EXCLUDED = "0.0.0.1"
"""Gateway IP, also in IPv6 rows: not steered."""


class Entry(msgspec.Struct, frozen=True, order=True):
    """`egress_ip`: 0.0.0.0 or :: where there is none, or on a node that isn't the gateway."""

    source: str
    destination: str
    egress_ip: str
    gateway_ip: str


class _Read(msgspec.Struct, frozen=True):
    endpoints: list[rows.Endpoint] = []
    sets: dict[str, list[rows.Route]] = {}
    groups: dict[str, rows.Group] = {}
    egress: dict[slots.Place, str] = {}


def entries(payloads: Mapping[str, bytes], node: str | None = None) -> list[Entry]:
    """As seen from `node`; without one, with every egress IP filled in, as each gateway sees its own.

    Raises codec.Undecodable. IPv4 first, by address, each entry once.
    """
    read = _Read()
    for subject, payload in payloads.items():
        _sort_in(read, subject, payload)
    found = {
        _entry(read, endpoint, route, node)
        for endpoint in read.endpoints
        for route in read.sets.get(endpoint.set, ())
        if addresses.family_of_text(endpoint.ip) == addresses.family_of_text(route.cidr)
    }
    return sorted(found, key=_order)


def _order(entry: Entry) -> tuple[object, ...]:
    source = addresses.address(entry.source)
    number = (source.version, int(source)) if source else (0, 0)
    return (*number, addresses.network_order(entry.destination), entry)


def _sort_in(read: _Read, subject: str, payload: bytes) -> None:
    name = subjects.parse(subject)
    if name is None or name.kind not in ("plan.endpoint", "plan.set", "plan.group", "plan.egress"):
        return
    match codec.decode(subject, payload):
        case rows.Endpoint() as endpoint:
            read.endpoints.append(endpoint)
        case rows.Routes() as chunk:
            read.sets.setdefault(name.ids[0], []).extend(chunk.routes)
        case rows.Group() as group:
            read.groups[name.ids[0]] = group
        case rows.Egress() as egress:
            read.egress[name.node, int(name.ids[0])] = egress.egress_ip


def _entry(read: _Read, endpoint: rows.Endpoint, route: rows.Route, node: str | None) -> Entry:
    family = addresses.family_of_text(route.cidr)
    path = _path(read.groups.get(route.group), family, endpoint.bucket)
    gateway_ip, egress_ip = NOT_FOUND, addresses.UNSPECIFIED[family]
    if path is not None and route.action is not rows.Action.DROP:
        gateway_ip = path.gateway_ip
        if node in (None, path.node):
            egress_ip = read.egress.get((path.node, path.slot), egress_ip)
    if route.action is rows.Action.EXCLUDE:
        gateway_ip = EXCLUDED
    return Entry(endpoint.ip, route.cidr, egress_ip, gateway_ip)


def _path(group: rows.Group | None, family: str, bucket: int) -> rows.Path | None:
    paths = (group.ipv4 if family == "ipv4" else group.ipv6) if group else None
    if paths is None or paths.buckets[bucket] == rows.NO_PATH:
        return None
    return paths.paths[paths.buckets[bucket]]
