"""The node around us, as `lowering` must know it: MTU, interface names, uplinks. Reads only."""

import errno
import ipaddress
import struct

from ebbgate_programmer.core import lowering, places, uplinks
from ebbgate_programmer.io import interfaces, netlink

_ETHERNET = 1
_SOURCE, _TABLE = 2, 15
_GET_POLICY, _POLICY_ID = 21, 64
"""The request, and the size of the struct that it is expected to carry."""
_OTHERS = (253, 254, 255)
"""Tables that every node has: what a rule adds to them isn't about a source."""


def read(*, node: str, port: int, object_hash: str, direct: str = places.AUTO) -> lowering.Environment:
    known = interfaces.links()
    return lowering.Environment(
        node=node,
        underlay_mtu=_underlay_mtu(known),
        port=port,
        object_hash=object_hash,
        direct=direct != places.OFF and not _has_ipsec(),
        interfaces={name: link.name for link in known for name in (link.name, *link.alt_names)},
        ethernet=_ethernet(known),
        families=tuple(name for name, number in interfaces.FAMILIES.items() if interfaces.rules(number)),
    )


def _has_ipsec() -> bool:
    """Whether some traffic of this node is to be encrypted by policy: the tunnel's may be."""
    try:
        return any(True for _ in netlink.dump(netlink.XFRM, _GET_POLICY, bytes(_POLICY_ID)))
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        return False  # a kernel without IPsec


def _underlay_mtu(known: list[interfaces.Link]) -> int:
    """Of the interface with the IPv4 default route, or the IPv6 one; else the smallest of those with
    addresses.
    """
    found = interfaces.read()
    by_family = [
        [each.index for each in found if family in each.default_route] for family in interfaces.FAMILIES
    ]
    chosen = by_family[0] or by_family[1] or [each.index for each in found]
    return min((link.mtu for link in known if link.index in chosen), default=places.DEFAULT_MTU)


def _ethernet(known: list[interfaces.Link]) -> dict[str, uplinks.Uplink]:
    ethernet = {link.name for link in known if link.kind == _ETHERNET}
    addresses = {each.name: each.addresses for each in interfaces.read() if each.name in ethernet}
    names = {link.index: link.name for link in known}
    routing = {family: _routing(number, names) for family, number in interfaces.FAMILIES.items()}
    return uplinks.find(addresses, routing)


def _routing(family: int, names: dict[int, str]) -> uplinks.Routing:
    by_source = tuple(
        (source, _legs(family, table, names))
        for source, table in map(_source_rule, interfaces.rules(family))
        if source and table not in (*_OTHERS, *places.TABLES)
    )
    return uplinks.Routing(_legs(family, interfaces.MAIN, names), by_source)


def _source_rule(payload: bytes) -> tuple[str, int]:
    """The rule's source as CIDR, empty if it is for any, and its table."""
    parts = dict(netlink.attributes(payload[12:]))
    table = netlink.number(parts.get(_TABLE)) or payload[4]
    length = struct.unpack_from("=BBB", payload)[2]
    return (f"{ipaddress.ip_address(parts[_SOURCE])}/{length}" if _SOURCE in parts else ""), table


def _legs(family: int, table: int, names: dict[int, str]) -> tuple[uplinks.Leg, ...]:
    return tuple(
        uplinks.Leg(names[route.index], route.destination, route.gateway, route.metric)
        for route in interfaces.routes(family, table)
        if route.kind == interfaces.UNICAST and route.index in names
    )
