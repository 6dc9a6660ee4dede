"""A pod's traffic without pause, and who answers it outside: `traffic send N` in a pod, `traffic answer`.

Of each kind in `packets`, to each destination in turn, in both families. TCP is closed with a reset, so that
nothing of an old connection lingers and ports never run out; but for quiet connections, which say nothing
until they are closed with a FIN: it may be their first word after a change. Bounded in rate (TICK_S) and by
the caller in time. SCTP and the unknown protocol are answered by ICMP errors: nobody outside speaks them.
"""

import contextlib
import random
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

from ebbgate_lab.hunt import packets, world

TICK_S = 0.01
QUIET_EVERY, QUIET_FOR_S = 5, 3.0
"""Ticks; the longest."""
PATIENCE_S = 0.8
"""Below the 1 s after which a SYN is sent again: each one counts once."""
_RESET, _NO_RESET = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
_TCP_USER_TIMEOUT_MS = 1500
_LARGEST = 65536
_AF = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_SOCKETS = {
    family: {
        packets.DATAGRAM: (socket.SOCK_DGRAM, 0),
        packets.FRAGMENT: (socket.SOCK_DGRAM, 0),
        packets.SCTP: (socket.SOCK_RAW, socket.IPPROTO_SCTP),
        packets.ECHO: (socket.SOCK_RAW, echo),
        packets.UNKNOWN: (socket.SOCK_RAW, packets.UNKNOWN_PROTOCOL),
    }
    for family, echo in (("ipv4", socket.IPPROTO_ICMP), ("ipv6", socket.IPPROTO_ICMPV6))
}
"""Kinds that need no connection → type and protocol. SCTP is made by hand: few kernels have its sockets."""


def main() -> None:
    # The process ends by SIGTERM at any point: there is nothing to keep.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if sys.argv[1] == "answer":
        Answerer().run()
    else:
        Sender(int(sys.argv[2])).run()


class Sender:
    """One pod's clients, all kinds, from one loop: a tick sends one of each, to the next destination."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._sockets = {
            (family, kind): _socket(family, kind) for family in world.FAMILIES for kind in _SOCKETS[family]
        }
        self._opening: list[tuple[socket.socket, float]] = []
        self._long = {address: self._connecting(address, packets.LONG) for address in world.DESTINATIONS}
        self._quiet: list[tuple[socket.socket, float]] = []
        self._sequence = 1

    def run(self) -> None:
        while True:
            began = time.monotonic()
            address = world.DESTINATIONS[self._sequence % len(world.DESTINATIONS)]
            family = world.family(address)
            for kind in _SOCKETS[family]:
                self._send(kind, family, address)
            self._continue(address)
            self._open(address)
            self._close_old()
            if self._sequence % QUIET_EVERY == 0:
                self._hush(address)
            self._sequence += 1
            time.sleep(max(0.0, TICK_S - (time.monotonic() - began)))

    def _send(self, kind: int, family: str, address: str) -> None:
        """Unreachable, refused, full: what becomes of a packet is looked at outside."""
        made = self._sockets[family, kind]
        port = packets.port(self._number, kind) if made.type == socket.SOCK_DGRAM else 0
        with contextlib.suppress(OSError):
            made.sendto(packets.payload(kind, family, self._number, self._sequence), (address, port))
        with contextlib.suppress(OSError):
            while made.recv(_LARGEST):
                pass

    def _open(self, address: str) -> None:
        self._opening.append((self._connecting(address, packets.NEW), time.monotonic()))

    def _close_old(self) -> None:
        """Connections of the last ticks have said their word, or never will."""
        for made, began in list(self._opening):
            if _said(made, self._sequence) or time.monotonic() - began > PATIENCE_S:
                made.close()
                self._opening.remove((made, began))

    def _hush(self, address: str) -> None:
        """One more quiet connection, and an end to those whose time has come."""
        now = time.monotonic()
        self._quiet.append((self._connecting(address, packets.QUIET), now + random.uniform(0, QUIET_FOR_S)))
        for made, _ in [each for each in self._quiet if each[1] < now]:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_RESET)
            made.close()
        self._quiet = [each for each in self._quiet if each[1] >= now]

    def _continue(self, address: str) -> None:
        """One more message over the connection to this destination, which is made anew when it broke."""
        made = self._long[address]
        try:
            with contextlib.suppress(BlockingIOError):
                made.send(struct.pack("!I", self._sequence))
                while made.recv(_LARGEST):
                    pass
        except OSError:
            made.close()
            self._long[address] = self._connecting(address, packets.LONG)

    def _connecting(self, address: str, kind: int) -> socket.socket:
        made = socket.socket(_AF[world.family(address)])
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            made.connect((address, packets.port(self._number, kind)))
        return made


def _socket(family: str, kind: int) -> socket.socket:
    made = socket.socket(_AF[family], *_SOCKETS[family][kind])
    made.setblocking(False)
    return made


def _said(made: socket.socket, sequence: int) -> bool:
    """Whether it is over: connected and sent, or failed."""
    try:
        made.send(struct.pack("!I", sequence))
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class Answerer:
    """Outside: echoes datagrams, and what comes over connections, so that flows are answered ones."""

    def __init__(self) -> None:
        self._ready = selectors.DefaultSelector()
        for address, number in _everywhere():
            for kind in (packets.NEW, packets.LONG, packets.QUIET):
                self._add(_listening(address, packets.port(number, kind)), self._accept)
            for kind in (packets.DATAGRAM, packets.FRAGMENT):
                datagrams = socket.socket(_AF[world.family(address)], socket.SOCK_DGRAM)
                datagrams.bind((address, packets.port(number, kind)))
                self._add(datagrams, self._answer_datagram)

    def run(self) -> None:
        while True:
            for key, _ in self._ready.select():
                with contextlib.suppress(OSError):  # gone before it was looked at
                    key.data(key.fileobj)

    def _add(self, made: socket.socket, act: Callable[[socket.socket], None]) -> None:
        made.setblocking(False)
        self._ready.register(made, selectors.EVENT_READ, act)

    def _accept(self, listening: socket.socket) -> None:
        made, _ = listening.accept()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._add(made, self._answer)

    def _answer(self, made: socket.socket) -> None:
        try:
            if text := made.recv(_LARGEST):
                made.send(text)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._ready.unregister(made)
        made.close()

    def _answer_datagram(self, datagrams: socket.socket) -> None:
        text, source = datagrams.recvfrom(_LARGEST)
        # An ICMP error about an earlier answer comes back here; it is about a pod that is gone.
        with contextlib.suppress(OSError):
            datagrams.sendto(text, source)


def _everywhere() -> Iterator[tuple[str, int]]:
    for address in world.DESTINATIONS:
        for number in range(len(world.PODS)):
            yield address, number


def _listening(address: str, on_port: int) -> socket.socket:
    made = socket.socket(_AF[world.family(address)])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, on_port))
    made.listen(128)
    return made


if __name__ == "__main__":
    main()
