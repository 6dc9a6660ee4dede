"""Netlink by plain structs: one request, its answers, their attributes. Under `network` and `conntrack`.

pyroute2 takes 50-300 us for a message, which a reader of the whole kernel every few seconds can't afford:
with it an idle programmer took 1.2 % of a core. It stays where little is written and much must be right.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

ROUTE, XFRM, NETFILTER = 0, 6, 12
REQUEST, ACK, DUMP = 1, 4, 0x300
NESTED = 0x8000
ERROR, _DONE = 2, 3
_SOL_NETLINK, _STRICT_CHECK = 270, 12
_RCVBUFFORCE = 33
_BUFFER = 1 << 20


class Refused(OSError):
    """The kernel's no to a request."""


@contextlib.contextmanager
def opened(protocol: int, port: int = 0) -> Iterator[socket.socket]:
    """A socket in the calling thread's network namespace. Strict: a filter in a dump's request counts.
    `port`: its number; 0: any.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as channel:
        channel.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER * 8)
        channel.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
        channel.bind((port, 0))
        yield channel


def dump(protocol: int, kind: int, body: bytes) -> Iterator[bytes]:
    """Payloads of all answers. Raises Refused."""
    with opened(protocol) as channel:
        channel.send(message(kind, REQUEST | DUMP, body))
        while True:
            for answer, payload in messages(channel.recv(_BUFFER)):
                if answer == _DONE:
                    return
                if answer == ERROR:
                    raise _refused(payload, "read")
                yield payload


def ask(channel: socket.socket, kind: int, body: bytes, *, flags: int = 0) -> int:
    """Sends a request that is only acknowledged; 0, or the error's number."""
    channel.send(message(kind, REQUEST | ACK | flags, body))
    for answer, payload in messages(channel.recv(_BUFFER)):
        if answer == ERROR:
            return -int(struct.unpack_from("=i", payload)[0])
    return 0


def _refused(payload: bytes, verb: str) -> Refused:
    (code,) = struct.unpack_from("=i", payload)
    return Refused(-code, f"{verb} from the kernel: {os.strerror(-code)}")


def message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, place)
        yield kind, data[place + 16 : place + size]
        place += (size + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)


def nest(kind: int, value: bytes) -> bytes:
    return attribute(kind | NESTED, value)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kinds without their flags, and values."""
    place = 0
    while place + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, place)
        yield kind & 0x3FFF, data[place + 4 : place + size]
        place += (size + 3) & ~3


def number(value: bytes | None) -> int:
    """An attribute of 1, 2 or 4 bytes in the machine's order; 0 if absent."""
    if not value:
        return 0
    return int(struct.unpack({1: "=B", 2: "=H", 4: "=I"}[len(value)], value)[0])


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode()
