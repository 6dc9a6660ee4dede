"""A node's interfaces, their addresses, routes and rules: read by rtnetlink."""

import ipaddress
import socket
import struct
from collections.abc import Iterator

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_programmer.core import places
from ebbgate_programmer.io import netlink

_GET_LINK, _GET_ADDRESS, _GET_ROUTE, _GET_RULE = 18, 22, 26, 34
_EXT_MASK, _SKIP_STATISTICS = 29, 8
MAIN, UNICAST = 254, 1
_UNUSABLE = 0x20 | 0x08 | 0x40
"""Flags deprecated, dadfailed, tentative."""
FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


class Link(msgspec.Struct, frozen=True):
    """`kind`: ARPHRD_… of linux/if_arp.h. `parts`: further attributes by kind."""

    kind: int
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
    _, kind, index, flags, _ = struct.unpack_from("=BxHiII", payload)
    parts = dict(netlink.attributes(payload[16:]))
    names = [netlink.text(value) for kind, value in netlink.attributes(parts.get(52, b"")) if kind == 53]
    return Link(
        kind=kind,
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
    for family in FAMILIES.values():
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
    defaults = {name: _default_interfaces(family) for name, family in FAMILIES.items()}
    return tuple(
        facts.Interface(
            name=link.name,
            index=link.index,
            alt_names=link.alt_names,
            addresses=tuple(held[link.index]),
            default_route=tuple(name for name in FAMILIES if link.index in defaults[name]),
        )
        for link in sorted(links(), key=lambda link: link.index)
        if link.index in held and link.name not in ("lo", places.DEVICE)
    )


def _is_global(cidr: str) -> bool:
    ip = ipaddress.ip_interface(cidr).ip
    return not (ip.is_link_local or ip.is_loopback)


def _default_interfaces(family: int) -> set[int]:
    """Where the best default route of the main table leaves: of several, the smallest metric."""
    return _best_defaults(routes(family, MAIN))


def _best_defaults(found: list["Route"]) -> set[int]:
    defaults = [route for route in found if route.kind == UNICAST and not route.destination]
    usable = [(route.metric, {route.index, *_multipath(route.parts.get(9, b""))} - {0}) for route in defaults]
    return min((each for each in usable if each[1]), default=(0, set[int]()), key=lambda each: each[0])[1]


def _multipath(data: bytes) -> Iterator[int]:
    place = 0
    while place + 8 <= len(data):
        size, _, _, index = struct.unpack_from("=HBBi", data, place)
        yield index
        place += (size + 3) & ~3


class Route(msgspec.Struct, frozen=True):
    """`destination`: CIDR, empty for everything. `gateway`: next hop, or empty. `index`: of its interface,
    or 0. `kind`: RTN_… of linux/rtnetlink.h. `parts`: further attributes by kind.
    """

    kind: int
    destination: str
    gateway: str
    index: int
    metric: int
    parts: dict[int, bytes]


def routes(family: int, table: int) -> list[Route]:
    """The routes of a table; none if there is no such table, or no such family."""
    header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
    request = header + netlink.attribute(15, struct.pack("=I", table))
    try:
        found = [_route(payload) for payload in netlink.dump(netlink.ROUTE, _GET_ROUTE, request)]
    except netlink.Refused:
        return []
    return [route for route in found if netlink.number(route.parts.get(15)) == table]


def _route(payload: bytes) -> Route:
    parts = dict(netlink.attributes(payload[12:]))
    length, kind = payload[1], payload[7]
    return Route(
        kind=kind,
        destination=f"{ipaddress.ip_address(parts[1])}/{length}" if length else "",
        gateway=str(ipaddress.ip_address(parts[5])) if 5 in parts else "",
        index=netlink.number(parts.get(4)),
        metric=netlink.number(parts.get(6)),
        parts=parts,
    )


def rules(family: int) -> list[bytes]:
    """Policy routing rules, as the kernel gives them; none if it can't route this family."""
    request = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
    try:
        return list(netlink.dump(netlink.ROUTE, _GET_RULE, request))
    except netlink.Refused:
        return []
