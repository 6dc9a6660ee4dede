"""The capture outside: of every IP packet that arrives, when, from whom, and which pod it came from.

Pods send with a TTL of their own (POD_TTL), which each hop lowers: so a packet that a node itself made (a
reset for a flow it has forgotten, an ICMP error, a neighbour's question) is told from one that it forwarded.
The time is the kernel's, taken at arrival; what the kernel had to drop before it could be read is counted,
and a hunt with such gaps is void.
"""

import functools
import ipaddress
import pathlib
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator

import msgspec

from ebbgate_lab.hunt import packets

POD_TTL, NODE_TTL = 200, 64
_RECORD = struct.Struct("!Q16s16sBBBBI")
_PARSE: dict[int, Callable[[bytes], packets.Packet]] = {
    0x0800: packets.parse_ipv4,
    0x86DD: packets.parse_ipv6,
}
_LONGEST = 128
"""Bytes of a packet that are looked at: IPv6's header, a fragment's, SCTP's with its chunk."""
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_BUFFER = 64 << 20
READY = "listens"


class Arrived(msgspec.Struct, frozen=True):
    """`pod`, `kind`: number of the pod's place and of packets.KINDS, or NOBODY. `sequence`: the sender's, if
    the packet tells it.
    """

    at_ns: int
    source: str
    destination: str
    protocol: int
    ttl: int
    pod: int
    kind: int
    sequence: int

    @property
    def from_pod(self) -> bool:
        """Neighbour discovery has a TTL above a pod's, all else of nodes one of at most theirs."""
        return NODE_TTL < self.ttl <= POD_TTL


class Capture(msgspec.Struct, frozen=True):
    """`lost`: packets that the kernel dropped because they weren't read in time."""

    packets: list[Arrived]
    lost: int


def main() -> None:
    """`capture FILE`, in the namespace outside, until SIGTERM. Prints READY when nothing can be missed."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    listening = {_listening(protocol): parse for protocol, parse in _PARSE.items()}
    print(READY, flush=True)
    with pathlib.Path(sys.argv[1]).open("wb") as file:
        while not stopped:
            for each in select.select(listening, (), (), 0.2)[0]:
                file.writelines(_arrived(each, listening[each]))
        file.write(struct.pack("!Q", sum(map(_lost, listening))))


def read(path: pathlib.Path) -> Capture:
    """What `main` wrote."""
    text = path.read_bytes()
    records, (lost,) = text[:-8], struct.unpack("!Q", text[-8:])
    arrived = [
        Arrived(at_ns, _text(source), _text(destination), *rest)
        for at_ns, source, destination, *rest in _RECORD.iter_unpack(records)
    ]
    return Capture(sorted(arrived, key=lambda packet: packet.at_ns), lost)


def _listening(protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol))
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    made.setblocking(False)
    return made


def _lost(listening: socket.socket) -> int:
    statistics = listening.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
    return int(struct.unpack("II", statistics)[1])


def _arrived(listening: socket.socket, parse: Callable[[bytes], packets.Packet]) -> Iterator[bytes]:
    """Records of all that waits."""
    while True:
        try:
            text, ancillary, _, address = listening.recvmsg(_LONGEST, 64)
        except BlockingIOError:
            return
        if address[2] != socket.PACKET_OUTGOING:
            (_, _, stamp), *_ = ancillary
            seconds, nanoseconds = struct.unpack("qq", stamp)
            yield _record(seconds * 1_000_000_000 + nanoseconds, parse(text))


def _record(at_ns: int, packet: packets.Packet) -> bytes:
    addresses = (packet.source.rjust(16, b"\0"), packet.destination.rjust(16, b"\0"))
    return _RECORD.pack(at_ns, *addresses, packet.protocol, packet.ttl, *packets.whose(packet))


@functools.lru_cache(maxsize=4096)
def _text(address: bytes) -> str:
    """Of packets there are millions, of addresses a handful."""
    is_ipv4 = not any(address[:12])
    return str(ipaddress.ip_address(address[12:] if is_ipv4 else address))


if __name__ == "__main__":
    main()
