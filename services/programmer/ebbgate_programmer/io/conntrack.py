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
from collections.abc import Iterable, Iterator

import msgspec

from ebbgate_programmer.io import netlink

_CTNETLINK = 1 << 8
_GET, _DELETE = _CTNETLINK | 1, _CTNETLINK | 2
_TUPLE_ORIG, _TUPLE_REPLY, _MARK, _ID, _ZONE, _MARK_MASK, _FILTER = 1, 2, 8, 12, 18, 21, 25
_SOURCE = slice(16, 20)
"""Header, then CTA_TUPLE_ORIG, CTA_TUPLE_IP and CTA_IP_V4_SRC begin: the kernel writes them in this order."""
_HEADER = struct.pack(">BBH", socket.AF_INET, 0, 0)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """`source`: original. `destination`: after DNAT (the reply's source). `key`: to remove it."""

    source: str
    destination: str
    mark: int
    key: bytes


def of_sources(pods: Iterable[str]) -> list[Entry]:
    """Entries whose original source is one of `pods`, IPv4.

    A dump walks the whole table, 15 ms at 262,144 buckets, however little it finds: one pod's is filtered by
    the kernel, several pods' are picked here out of one dump.
    """
    wanted = {ipaddress.IPv4Address(pod).packed for pod in pods}
    only = next(iter(wanted)) if len(wanted) == 1 else b""
    return list(_dump(_from(only) if only else b"", wanted))


def _from(address: bytes) -> bytes:
    # ORIG_FLAGS: bit 0 says that the source address is to be compared (CTA_FILTER_F_CTA_IP_SRC).
    flags = netlink.attribute(1, struct.pack("=I", 1)) + netlink.attribute(2, struct.pack("=I", 0))
    source = netlink.nest(_TUPLE_ORIG, netlink.nest(1, netlink.attribute(1, address)))
    return source + netlink.nest(_FILTER, flags)


def of_mark(mark: int, mask: int) -> list[Entry]:
    """Entries with `mark` under `mask`, IPv4."""
    wanted = netlink.attribute(_MARK, struct.pack(">I", mark)) + netlink.attribute(
        _MARK_MASK, struct.pack(">I", mask)
    )
    return [entry for entry in _dump(wanted) if entry.mark & mask == mark]


def remove(entries: list[Entry]) -> int:
    """Absent afterwards; how many were there still. TCP on both sides then begins anew or is reset."""
    with netlink.opened(netlink.NETFILTER) as channel:
        return sum(_remove(channel, entry) for entry in entries)


def _remove(channel: socket.socket, entry: Entry) -> bool:
    code = netlink.ask(channel, _DELETE, _HEADER + entry.key)
    if code not in (0, errno.ENOENT):
        raise netlink.Refused(code, f"remove a connection: {os.strerror(code)}")
    return code == 0


def _dump(request: bytes, sources: frozenset[bytes] | set[bytes] = frozenset()) -> Iterator[Entry]:
    """`sources`: only entries from there; empty: all. Told by fixed bytes, as there may be a million."""
    for payload in netlink.dump(netlink.NETFILTER, _GET, _HEADER + request):
        if not sources or payload[_SOURCE] in sources:
            yield _entry(payload[4:])


def _entry(body: bytes) -> Entry:
    parts = dict(netlink.attributes(body))
    original, reply = (
        dict(netlink.attributes(parts[_TUPLE_ORIG])),
        dict(netlink.attributes(parts[_TUPLE_REPLY])),
    )
    (mark,) = struct.unpack(">I", parts.get(_MARK, b"\0\0\0\0"))
    key = netlink.nest(_TUPLE_ORIG, parts[_TUPLE_ORIG])
    # With its id: another connection that took the same tuple meanwhile isn't removed.
    key += b"".join(netlink.attribute(kind, parts[kind]) for kind in (_ID, _ZONE) if kind in parts)
    return Entry(_source(original), _source(reply), mark, key)


def _source(of: dict[int, bytes]) -> str:
    return str(ipaddress.IPv4Address(dict(netlink.attributes(of[1]))[1]))
