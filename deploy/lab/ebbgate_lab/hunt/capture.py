"""The capture outside: of every IPv4 packet that arrives, when, from whom, and which pod it came from.

Pods send with a TTL of their own (POD_TTL), which each hop lowers: so a packet that a node itself made (a
reset for a flow it has forgotten, an ICMP error) is told from one that it forwarded. The time is the
kernel's, taken at arrival; what the kernel had to drop before it could be read is counted, and a hunt with
such gaps is void.
"""

import pathlib
import signal
import socket
import struct
import sys
from collections.abc import Iterator

import msgspec

from ebbgate_lab.hunt import traffic

POD_TTL, NODE_TTL = 200, 64
NOBODY = 255
"""Instead of a pod's number: the packet doesn't say."""
_RECORD = struct.Struct("!Q4s4sBBBBI")
_ETH_P_IP = 0x0800
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_BUFFER = 64 << 20
READY = "listens"


class Packet(msgspec.Struct, frozen=True):
    """`pod`, `kind`: number of the pod's place and of traffic.KINDS, or NOBODY. `sequence`: the sender's, if
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
        return self.ttl > NODE_TTL


class Capture(msgspec.Struct, frozen=True):
    """`lost`: packets that the kernel dropped because they weren't read in time."""

    packets: list[Packet]
    lost: int


def main() -> None:
    """`capture FILE`, in the namespace outside, until SIGTERM. Prints READY when nothing can be missed."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        listening.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        listening.settimeout(0.2)
        print(READY, flush=True)
        with pathlib.Path(sys.argv[1]).open("wb") as file:
            while not stopped:
                for record in _arrived(listening):
                    file.write(record)
            statistics = listening.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
            file.write(struct.pack("!Q", struct.unpack("II", statistics)[1]))


def read(path: pathlib.Path) -> Capture:
    """What `main` wrote."""
    text = path.read_bytes()
    records, (lost,) = text[:-8], struct.unpack("!Q", text[-8:])
    packets = [_decode(*fields) for fields in _RECORD.iter_unpack(records)]
    return Capture(sorted(packets, key=lambda packet: packet.at_ns), lost)


def _arrived(listening: socket.socket) -> Iterator[bytes]:
    try:
        text, ancillary, _, address = listening.recvmsg(128, 64)
    except TimeoutError:
        return
    if address[2] == socket.PACKET_OUTGOING or len(text) < 20:
        return
    (_, _, stamp), *_ = ancillary
    seconds, nanoseconds = struct.unpack("qq", stamp)
    number, kind, sequence = whose(text)
    at_ns = seconds * 1_000_000_000 + nanoseconds
    yield _RECORD.pack(at_ns, text[12:16], text[16:20], text[9], text[8], number, kind, sequence)


def whose(packet: bytes) -> tuple[int, int, int]:
    """Number of the pod's place, kind and sequence, as the packet (from its IPv4 header on) tells them."""
    protocol, body = packet[9], packet[(packet[0] & 15) * 4 :]
    if protocol == socket.IPPROTO_ICMP:
        head = 8 + len(traffic.ECHO_HEAD)
        if body[8:head] == traffic.ECHO_HEAD and body[0] == 8:
            number, sequence = struct.unpack("!BI", body[head : head + 5])
            return number, traffic.ECHO, sequence
    elif protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        found = traffic.parse_port(int.from_bytes(body[2:4], "big"))
        payload = body[8:12] if protocol == socket.IPPROTO_UDP else body[4:8]
        if found is not None:
            return *found, int.from_bytes(payload, "big")
    return NOBODY, NOBODY, 0


def _decode(at_ns: int, source: bytes, destination: bytes, *rest: int) -> Packet:
    return Packet(at_ns, socket.inet_ntoa(source), socket.inet_ntoa(destination), *rest)


if __name__ == "__main__":
    main()
