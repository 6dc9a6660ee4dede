"""Conntrack entries: found by a pod's address or by a slot's mark, and removed one by one.

By ctnetlink with plain structs: pyroute2 takes 276 us for an entry of a dump and knows no filter by address,
and a node may hold a million entries. The kernel filters dumps by original source (CTA_FILTER, kernel 5.8);
an older one sends all, so what comes is filtered again here. Which entries must go is for others to say.
"""

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

import msgspec

_NETLINK_NETFILTER = 12
_CTNETLINK = 1 << 8
_NEW, _GET, _DELETE = _CTNETLINK | 0, _CTNETLINK | 1, _CTNETLINK | 2
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_TUPLE_ORIG, _TUPLE_REPLY, _MARK, _ID, _MARK_MASK, _FILTER = 1, 2, 8, 12, 21, 25
_ZONE = 18
_BUFFER = 1 << 20


class Entry(msgspec.Struct, frozen=True, gc=False):
    """`source`: original. `destination`: after DNAT (the reply's source). `key`: to remove it."""

    source: str
    destination: str
    mark: int
    key: bytes


class Refused(OSError):
    """The kernel's no to a request."""


def of_source(pod: str) -> list[Entry]:
    """Entries whose original source is `pod`, IPv4."""
    address = ipaddress.IPv4Address(pod).packed
    wanted = _nest(_TUPLE_ORIG, _nest(1, _attribute(1, address)))
    # ORIG_FLAGS: bit 0 says that the source address is to be compared (CTA_FILTER_F_CTA_IP_SRC).
    wanted += _nest(_FILTER, _attribute(1, struct.pack("=I", 1)) + _attribute(2, struct.pack("=I", 0)))
    return [entry for entry in _dump(wanted) if entry.source == pod]


def of_mark(mark: int, mask: int) -> list[Entry]:
    """Entries with `mark` under `mask`, IPv4."""
    wanted = _attribute(_MARK, struct.pack(">I", mark)) + _attribute(_MARK_MASK, struct.pack(">I", mask))
    return [entry for entry in _dump(wanted) if entry.mark & mask == mark]


def remove(entries: list[Entry]) -> int:
    """Absent afterwards; how many were there still. TCP on both sides then begins anew or is reset."""
    with _socket() as channel:
        return sum(_remove(channel, entry) for entry in entries)


def _remove(channel: socket.socket, entry: Entry) -> bool:
    channel.send(_message(_DELETE, _REQUEST | _ACK, entry.key))
    for kind, payload in _messages(channel.recv(_BUFFER)):
        if kind == _ERROR:
            (code,) = struct.unpack_from("=i", payload)
            if code not in (0, -errno.ENOENT):
                raise Refused(-code, f"remove a connection: {os.strerror(-code)}")
            return bool(code == 0)
    return False


def _dump(attributes: bytes) -> Iterator[Entry]:
    with _socket() as channel:
        channel.send(_message(_GET, _REQUEST | _DUMP, attributes))
        while True:
            for kind, payload in _messages(channel.recv(_BUFFER)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    (code,) = struct.unpack_from("=i", payload)
                    raise Refused(-code, f"read connections: {os.strerror(-code)}")
                yield _entry(payload[4:])


@contextlib.contextmanager
def _socket() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as channel:
        channel.setsockopt(socket.SOL_SOCKET, 33, _BUFFER * 8)  # SO_RCVBUFFORCE
        channel.bind((0, 0))
        yield channel


def _entry(body: bytes) -> Entry:
    parts = dict(_attributes(body))
    original, reply = dict(_attributes(parts[_TUPLE_ORIG])), dict(_attributes(parts[_TUPLE_REPLY]))
    (mark,) = struct.unpack(">I", parts.get(_MARK, b"\0\0\0\0"))
    key = _nest(_TUPLE_ORIG, parts[_TUPLE_ORIG])
    # With its id: another connection that took the same tuple meanwhile isn't removed.
    key += b"".join(_attribute(kind, parts[kind]) for kind in (_ID, _ZONE) if kind in parts)
    return Entry(_source(original), _source(reply), mark, key)


def _source(of: dict[int, bytes]) -> str:
    return str(ipaddress.IPv4Address(dict(_attributes(of[1]))[1]))


def _message(kind: int, flags: int, attributes: bytes) -> bytes:
    body = struct.pack(">BBH", socket.AF_INET, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, place)
        yield kind, data[place + 16 : place + size]
        place += (size + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)


def _nest(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, place)
        yield kind & 0x3FFF, data[place + 4 : place + size]
        place += (size + 3) & ~3
