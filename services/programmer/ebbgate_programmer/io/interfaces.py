"""A node's interfaces, their addresses and default routes: read by rtnetlink, as facts and for lowering."""

import ipaddress
import socket
import struct
from collections.abc import Iterator

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_programmer.core import lowering, places
from ebbgate_programmer.io import netlink

_GET_LINK, _GET_ADDRESS, _GET_ROUTE = 18, 22, 26
_EXT_MASK, _SKIP_STATISTICS = 29, 8
_MAIN, _UNICAST = 254, 1
_UNUSABLE = 0x20 | 0x08 | 0x40
"""Flags deprecated, dadfailed, tentative."""
_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


class Link(msgspec.Struct, frozen=True):
    """`parts`: further attributes by kind."""

    index: int
    name: str
    alt_names: tuple[str, ...]
    mtu: int
    flags: int
    mac: str
    parts: dict[int, bytes]


def links() -> list[Link]:
    """All, by index."""
    request = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + netlink.attribute(
        _EXT_MASK, struct.pack("=I", _SKIP_STATISTICS)
    )
    return [_link(payload) for payload in netlink.dump(netlink.ROUTE, _GET_LINK, request)]


def _link(payload: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", payload)
    parts = dict(netlink.attributes(payload[16:]))
    names = [netlink.text(value) for kind, value in netlink.attributes(parts.get(52, b"")) if kind == 53]
    return Link(
        index=index,
        name=netlink.text(parts.get(3)),
        alt_names=tuple(sorted(names)),
        mtu=netlink.number(parts.get(4)),
        flags=flags,
        mac=parts.get(1, b"").hex(":"),
        parts=parts,
    )


def addresses(index: int = 0) -> Iterator[tuple[int, str]]:
    """(interface index, CIDR) of usable addresses, in the kernel's order, IPv4 first; `index` 0: of all."""
    for family in _FAMILIES.values():
        request = struct.pack("=BBBBI", family, 0, 0, 0, index)
        for payload in netlink.dump(netlink.ROUTE, _GET_ADDRESS, request):
            _, length, flags, _, of = struct.unpack_from("=BBBBI", payload)
            parts = dict(netlink.attributes(payload[8:]))
            flags |= netlink.number(parts.get(8))
            address = ipaddress.ip_address(parts.get(2) or parts[1])
            if not flags & _UNUSABLE:
                yield of, f"{address}/{length}"


def read() -> tuple[facts.Interface, ...]:
    """Those with a global address, by index; lo and ebbgate0 are nobody's business."""
    held: dict[int, list[str]] = {}
    for index, cidr in addresses():
        if _is_global(cidr):
            held.setdefault(index, []).append(cidr)
    defaults = {name: _default_interfaces(family) for name, family in _FAMILIES.items()}
    return tuple(
        facts.Interface(
            name=link.name,
            index=link.index,
            alt_names=link.alt_names,
            addresses=tuple(held[link.index]),
            default_route=tuple(name for name in _FAMILIES if link.index in defaults[name]),
        )
        for link in sorted(links(), key=lambda link: link.index)
        if link.index in held and link.name not in ("lo", places.DEVICE)
    )


def _is_global(cidr: str) -> bool:
    ip = ipaddress.ip_interface(cidr).ip
    return not (ip.is_link_local or ip.is_loopback)


def _default_interfaces(family: int) -> set[int]:
    """Where the best default route of the main table leaves: of several, the smallest metric."""
    best: tuple[int, set[int]] | None = None
    for payload in netlink.dump(netlink.ROUTE, _GET_ROUTE, _routes_of(family, _MAIN)):
        parts = dict(netlink.attributes(payload[12:]))
        if payload[1] != 0 or payload[7] != _UNICAST or netlink.number(parts.get(15)) != _MAIN:
            continue
        found = {netlink.number(parts.get(4)), *_multipath(parts.get(9, b""))} - {0}
        metric = netlink.number(parts.get(6))
        if found and (best is None or metric < best[0]):
            best = (metric, found)
    return best[1] if best else set()


def _multipath(data: bytes) -> Iterator[int]:
    place = 0
    while place + 8 <= len(data):
        size, _, _, index = struct.unpack_from("=HBBi", data, place)
        yield index
        place += (size + 3) & ~3


def _routes_of(family: int, table: int) -> bytes:
    header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
    return header + netlink.attribute(15, struct.pack("=I", table))


def routes(family: int, table: int) -> list[tuple[int, dict[int, bytes]]]:
    """(type, attributes) of each route of a table; none if there is no such table."""
    try:
        found = list(netlink.dump(netlink.ROUTE, _GET_ROUTE, _routes_of(family, table)))
    except netlink.Refused:
        return []
    return [(payload[7], dict(netlink.attributes(payload[12:]))) for payload in found]


def environment(*, node: str, port: int, object_hash: str) -> lowering.Environment:
    """What lowering must know, as the kernel has it now."""
    known = links()
    return lowering.Environment(
        node=node,
        underlay_mtu=_underlay_mtu(known),
        port=port,
        object_hash=object_hash,
        interfaces={name: link.name for link in known for name in (link.name, *link.alt_names)},
    )


def _underlay_mtu(known: list[Link]) -> int:
    """Of the interface with the IPv4 default route; without one, the smallest of those with addresses."""
    found = read()
    chosen = [each.index for each in found if "ipv4" in each.default_route] or [each.index for each in found]
    return min((link.mtu for link in known if link.index in chosen), default=places.DEFAULT_MTU)
