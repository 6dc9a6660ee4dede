"""Conntrack entries: found by a pod's address or by a slot's mark, and removed one by one.

By ctnetlink with plain structs: pyroute2 takes 276 us for an entry of a dump and knows no filter by address,
and a node may hold a million entries. The kernel filters dumps by original source (CTA_FILTER, kernel 5.8);
an older one sends all, so what comes is filtered again here. Which entries must go is for others to say.
"""

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator

import msgspec

from ebbgate_programmer.io import netlink

_CTNETLINK = 1 << 8
_GET, _DELETE = _CTNETLINK | 1, _CTNETLINK | 2
_TUPLE_ORIG, _TUPLE_REPLY, _MARK, _ID, _ZONE, _MARK_MASK, _FILTER = 1, 2, 8, 12, 18, 21, 25
_SOURCES: dict[int, slice] = {socket.AF_INET: slice(16, 20), socket.AF_INET6: slice(16, 32)}
"""Header, then CTA_TUPLE_ORIG, CTA_TUPLE_IP and CTA_IP_V4_SRC (or V6) begin: the kernel keeps this order."""
_SOURCE_KIND: dict[int, int] = {socket.AF_INET: 1, socket.AF_INET6: 3}
_V6_SIZE = 16
_HEADERS: dict[int, bytes] = {family: struct.pack(">BBH", family, 0, 0) for family in _SOURCES}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """`source`: original. `destination`: after DNAT (the reply's source). `key`: to remove it."""

    family: int
    source: str
    destination: str
    mark: int
    key: bytes


def of_sources(pods: Iterable[str]) -> list[Entry]:
    """Entries whose original source is one of `pods`.

    A dump walks the whole table, 15 ms at 262,144 buckets, however little it finds: one pod's is filtered by
    the kernel, several pods' are picked here out of one dump.
    """
    packed = set(map(netlink.packed, pods))
    sixes = {each for each in packed if len(each) == _V6_SIZE}
    by_family = {socket.AF_INET: packed - sixes, socket.AF_INET6: sixes}
    return [entry for family, wanted in by_family.items() if wanted for entry in _of_sources(family, wanted)]


def _of_sources(family: int, wanted: set[bytes]) -> Iterator[Entry]:
    # Linux 6.18 compares IPv6 addresses the wrong way round here: it sends all but those asked for.
    one = len(wanted) == 1 and family == socket.AF_INET
    return _dump(family, _from(next(iter(wanted))) if one else b"", wanted)


def _from(address: bytes) -> bytes:
    """Only from this IPv4 address."""
    # ORIG_FLAGS: bit 0 says that the source address is to be compared (CTA_FILTER_F_CTA_IP_SRC).
    flags = netlink.attribute(1, struct.pack("=I", 1)) + netlink.attribute(2, struct.pack("=I", 0))
    source = netlink.nest(
        _TUPLE_ORIG, netlink.nest(1, netlink.attribute(_SOURCE_KIND[socket.AF_INET], address))
    )
    return source + netlink.nest(_FILTER, flags)


def of_mark(mark: int, mask: int, *, without: Iterable[str] = ()) -> list[Entry]:
    """Entries with `mark` under `mask`. `without`: original sources whose entries aren't asked for."""
    wanted = netlink.attribute(_MARK, struct.pack(">I", mark)) + netlink.attribute(
        _MARK_MASK, struct.pack(">I", mask)
    )
    others = frozenset(map(netlink.packed, without))
    found = (entry for family in _HEADERS for entry in _dump(family, wanted, others=others))
    return [entry for entry in found if entry.mark & mask == mark]


def remove(entries: list[Entry]) -> int:
    """Absent afterwards; how many were there still. TCP on both sides then begins anew or is reset."""
    with netlink.opened(netlink.NETFILTER) as channel:
        return sum(_remove(channel, entry) for entry in entries)


def _remove(channel: socket.socket, entry: Entry) -> bool:
    code = netlink.ask(channel, _DELETE, _HEADERS[entry.family] + entry.key)
    if code not in (0, errno.ENOENT):
        raise netlink.Refused(code, f"remove a connection: {os.strerror(code)}")
    return code == 0


def _dump(
    family: int, request: bytes, sources: Collection[bytes] = (), *, others: Collection[bytes] = ()
) -> Iterator[Entry]:
    """`sources`: only entries from there; empty: all, but those from `others`. Told by fixed bytes, as there
    may be a million.
    """
    place = _SOURCES[family]
    for payload in netlink.dump(netlink.NETFILTER, _GET, _HEADERS[family] + request):
        if (not sources or payload[place] in sources) and payload[place] not in others:
            yield _entry(family, payload[4:])


def _entry(family: int, body: bytes) -> Entry:
    parts = dict(netlink.attributes(body))
    original, reply = (
        dict(netlink.attributes(parts[_TUPLE_ORIG])),
        dict(netlink.attributes(parts[_TUPLE_REPLY])),
    )
    (mark,) = struct.unpack(">I", parts.get(_MARK, b"\0\0\0\0"))
    key = netlink.nest(_TUPLE_ORIG, parts[_TUPLE_ORIG])
    # With its id: another connection that took the same tuple meanwhile isn't removed.
    key += b"".join(netlink.attribute(kind, parts[kind]) for kind in (_ID, _ZONE) if kind in parts)
    source, destination = (_source(family, each) for each in (original, reply))
    return Entry(family, source, destination, mark, key)


def _source(family: int, of: dict[int, bytes]) -> str:
    return str(ipaddress.ip_address(dict(netlink.attributes(of[1]))[_SOURCE_KIND[family]]))
