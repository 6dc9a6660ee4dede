"""What the hunt's packets look like: made for pods that send, recognised outside. Pure.

What survives every translation says whose a packet is: the destination port of TCP and SCTP, else a record in
the payload. Big datagrams are records from end to end: each is eight bytes long, as is the unit that
fragments are counted in, so every fragment begins with one and tells by itself whose it is.
"""

import functools
import socket
import struct

import msgspec

from ebbgate_lab.hunt import world

KINDS = (
    "new connections",
    "one connection",
    "datagrams",
    "fragments",
    "SCTP",
    "echo requests",
    "an unknown protocol",
    "quiet connections",
)
NEW, LONG, DATAGRAM, FRAGMENT, SCTP, ECHO, UNKNOWN, QUIET = range(len(KINDS))
NOBODY = 255
"""Instead of the number of a pod's place, or of a kind: the packet doesn't say."""
BASE_PORT = 20_000
UNKNOWN_PROTOCOL = 253
"""For experiments (RFC 3692): conntrack knows nothing of it but the addresses."""
_ECHO_REQUEST = {"ipv4": 8, "ipv6": 128}
_RECORD = struct.Struct("!3sBI")
_MAGIC = b"ebb"
_BIG = 375
"""Records, that is 3,000 bytes: three fragments."""
_UDP_HEADER, _ECHO_HEADER, _SCTP_HEADER = 8, 8, 12
_IPV6_HEADER, _IPV6_FRAGMENT = 40, 44

Whose = tuple[int, int, int]
"""Number of the pod's place, kind, and the sender's sequence number."""
_NOBODYS: Whose = (NOBODY, NOBODY, 0)


class Packet(msgspec.Struct, frozen=True):
    """`body`: what follows the IP headers. `offset`: where in its datagram a fragment begins, in bytes;
    `whole`: it is no fragment.
    """

    source: bytes
    destination: bytes
    protocol: int
    ttl: int
    whole: bool
    offset: int
    body: bytes


def port(number: int, kind: int) -> int:
    return BASE_PORT + 10 * number + kind


def payload(kind: int, family: str, number: int, sequence: int) -> bytes:
    """What a socket is given to send: one of UDP the data, a raw one all that follows the IP header."""
    record = _RECORD.pack(_MAGIC, number, sequence)
    if kind == FRAGMENT:
        return record * _BIG
    if kind == SCTP:
        return _sctp_init(port(number, SCTP), sequence)
    return _echo_request(family, number, record) if kind == ECHO else record


def _echo_request(family: str, number: int, record: bytes) -> bytes:
    """ICMPv6's checksum is the kernel's to fill in, as it covers the addresses."""
    kind, identifier = _ECHO_REQUEST[family], 7000 + number
    plain = struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + record
    total: int = sum(struct.unpack(f"!{len(plain) // 2}H", plain))
    total = (total >> 16) + (total & 0xFFFF)
    return struct.pack("!BBHHH", kind, 0, 0xFFFF & ~(total + (total >> 16)), identifier, 1) + record


def _sctp_init(to_port: int, sequence: int) -> bytes:
    """RFC 9260: the common header with a CRC32c, and an INIT chunk, whose tag is the sequence number."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, sequence, 65535, 1, 1, 1)
    head = struct.pack("!HHI", to_port, to_port, 0)
    return head + struct.pack("<I", _crc32c(head + bytes(4) + chunk)) + chunk


def _crc32c(data: bytes) -> int:
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = remainder >> 8 ^ _crc_table()[(remainder ^ byte) & 0xFF]
    return remainder ^ 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    def of(byte: int) -> int:
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        return byte

    return tuple(map(of, range(256)))


def parse_ipv4(text: bytes) -> Packet:
    (fragment,) = struct.unpack_from("!H", text, 6)
    offset, more = 8 * (fragment & 0x1FFF), bool(fragment & 0x2000)
    body = text[(text[0] & 15) * 4 :]
    return Packet(text[12:16], text[16:20], text[9], text[8], not (offset or more), offset, body)


def parse_ipv6(text: bytes) -> Packet:
    """Of extension headers only a fragment's is looked behind: pods send no others."""
    protocol, ttl, body, offset, whole = text[6], text[7], text[_IPV6_HEADER:], 0, True
    if protocol == _IPV6_FRAGMENT:
        protocol, fragment = struct.unpack_from("!BxH", body)
        offset, whole, body = fragment & 0xFFF8, False, body[8:]
    return Packet(text[8:24], text[24:40], protocol, ttl, whole, offset, body)


def whose(packet: Packet) -> Whose:
    body = packet.body
    match packet.protocol:
        case socket.IPPROTO_UDP:
            record = body if packet.offset else body[_UDP_HEADER:]
            return _of_record(record, DATAGRAM if packet.whole else FRAGMENT)
        case socket.IPPROTO_TCP:
            return _of_port(body, body[4:8])
        case socket.IPPROTO_SCTP:
            return _of_port(body, body[_SCTP_HEADER + 4 : _SCTP_HEADER + 8])
        case socket.IPPROTO_ICMP | socket.IPPROTO_ICMPV6 if body[0] in _ECHO_REQUEST.values():
            return _of_record(body[_ECHO_HEADER:], ECHO)
    return _of_record(body, UNKNOWN) if packet.protocol == UNKNOWN_PROTOCOL else _NOBODYS


def _of_record(text: bytes, kind: int) -> Whose:
    if len(text) < _RECORD.size:
        return _NOBODYS
    magic, number, sequence = _RECORD.unpack_from(text)
    return (number, kind, sequence) if magic == _MAGIC and number < len(world.PODS) else _NOBODYS


def _of_port(body: bytes, sequence: bytes) -> Whose:
    number, kind = divmod(int.from_bytes(body[2:4], "big") - BASE_PORT, 10)
    known = 0 <= number < len(world.PODS) and kind in (NEW, LONG, SCTP, QUIET)
    return (number, kind, int.from_bytes(sequence, "big")) if known else _NOBODYS
