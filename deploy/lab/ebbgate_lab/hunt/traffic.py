"""A pod's traffic without pause, and who answers it outside: `traffic send N` in a pod, `traffic answer`.

Each packet can be told apart outside by what survives every translation: the destination port says the pod's
number and the kind, an echo request says them in its payload. TCP is closed with a reset, so that nothing of
an old connection lingers and ports never run out. Bounded in rate (TICK_S) and by the caller in time.
"""

import contextlib
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

from ebbgate_lab.hunt import world

TICK_S = 0.01
PATIENCE_S = 0.8
"""Below the 1 s after which a SYN is sent again: each one counts once."""
BASE_PORT = 20_000
KINDS = ("new connections", "one connection", "datagrams", "echo requests")
NEW, LONG, DATAGRAM, ECHO = range(4)
ECHO_HEAD = b"ebbgate-hunt"
_RESET = struct.pack("ii", 1, 0)
_TCP_USER_TIMEOUT_MS = 1500


def port(number: int, kind: int) -> int:
    return BASE_PORT + 10 * number + kind


def parse_port(value: int) -> tuple[int, int] | None:
    """Number of the pod's place and kind, if it is one of ours."""
    number, kind = divmod(value - BASE_PORT, 10)
    return (number, kind) if 0 <= number < len(world.PODS) and kind < ECHO else None


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
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.setblocking(False)
        self._echo = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._echo.setblocking(False)
        self._opening: list[tuple[socket.socket, float]] = []
        self._long = [_connecting(address, port(number, LONG)) for address in world.DESTINATIONS]
        self._sequence = 0

    def run(self) -> None:
        while True:
            began = time.monotonic()
            which = self._sequence % len(world.DESTINATIONS)
            for send in (self._send_datagram, self._send_echo, self._continue, self._open):
                # Unreachable, refused, full: what becomes of a packet is looked at outside.
                with contextlib.suppress(OSError):
                    send(which)
            self._close_old()
            self._sequence += 1
            time.sleep(max(0.0, TICK_S - (time.monotonic() - began)))

    def _send_datagram(self, which: int) -> None:
        payload = struct.pack("!I", self._sequence)
        self._datagrams.sendto(payload, (world.DESTINATIONS[which], port(self._number, DATAGRAM)))
        while self._datagrams.recv(64):
            pass

    def _send_echo(self, which: int) -> None:
        packet = echo_request(self._number, self._sequence)
        self._echo.sendto(packet, (world.DESTINATIONS[which], 0))
        while self._echo.recv(256):
            pass

    def _open(self, which: int) -> None:
        if self._sequence % 2 == 0:
            made = _connecting(world.DESTINATIONS[which], port(self._number, NEW))
            self._opening.append((made, time.monotonic()))

    def _close_old(self) -> None:
        """Connections of the last ticks have said their word, or never will."""
        for made, began in list(self._opening):
            if _said(made, self._sequence) or time.monotonic() - began > PATIENCE_S:
                made.close()
                self._opening.remove((made, began))

    def _continue(self, which: int) -> None:
        """One more message over the connection to this destination, which is made anew when it broke."""
        try:
            with contextlib.suppress(BlockingIOError):
                self._long[which].send(struct.pack("!I", self._sequence))
                while self._long[which].recv(4096):
                    pass
        except OSError:
            self._long[which].close()
            self._long[which] = _connecting(world.DESTINATIONS[which], port(self._number, LONG))


def echo_request(number: int, sequence: int) -> bytes:
    payload = ECHO_HEAD + struct.pack("!BI", number, sequence)
    head = struct.pack("!BBHHH", 8, 0, 0, 7000 + number, sequence & 0xFFFF)
    checked = struct.pack("!BBHHH", 8, 0, _checksum(head + payload), 7000 + number, sequence & 0xFFFF)
    return checked + payload


def _checksum(packet: bytes) -> int:
    padded = packet + b"\0" * (len(packet) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    folded = (total >> 16) + (total & 0xFFFF)
    return 0xFFFF & ~(folded + (folded >> 16))


def _connecting(address: str, to_port: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(BlockingIOError):
        made.connect((address, to_port))
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
            for kind in (NEW, LONG):
                self._add(_listening(address, port(number, kind)), self._accept)
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            datagrams.bind((address, port(number, DATAGRAM)))
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
            if text := made.recv(4096):
                made.send(text)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._ready.unregister(made)
        made.close()

    def _answer_datagram(self, datagrams: socket.socket) -> None:
        text, source = datagrams.recvfrom(64)
        # An ICMP error about an earlier answer comes back here; it is about a pod that is gone.
        with contextlib.suppress(OSError):
            datagrams.sendto(text, source)


def _everywhere() -> Iterator[tuple[str, int]]:
    for address in world.DESTINATIONS:
        for number in range(len(world.PODS)):
            yield address, number


def _listening(address: str, on_port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, on_port))
    made.listen(128)
    return made


if __name__ == "__main__":
    main()
