"""Not only TCP: datagrams, echoes, fragments, big packets, unknown protocols; in both families.

Each sender speaks from the pod by a socket of its own; the outside host says which source it saw.
"""

import socket
import struct
from collections.abc import Iterator

import pytest

from ebbgate_bus.contracts import rows, subjects
from ebbgate_lab import topology
from tests.kernel import rig as rigs

EGRESS_IP, NODE_IP, OUTSIDE = "10.168.60.100", "10.168.60.11", "10.168.60.13"
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
ECHO = {"ipv4": (socket.IPPROTO_ICMP, 8, 0), "ipv6": (socket.IPPROTO_ICMPV6, 128, 129)}
UNKNOWN_PROTOCOL = 253
"""For experiments (RFC 3692): conntrack knows nothing of it but the addresses."""
PORT = 9000
WAIT_S = 3.0


def of(family: str, address: str) -> str:
    return address if family == "ipv4" else topology.twin(address)


def _socket(rig: rigs.Rig, place: str, family: str, kind: tuple[int, int]) -> socket.socket:
    """A socket of that namespace; it stays there."""
    with rig.lab.entered(place):
        made = socket.socket(socket.AF_INET if family == "ipv4" else socket.AF_INET6, *kind)
    made.settimeout(WAIT_S)
    return made


@FAMILIES
async def test_datagrams_of_every_size_go_and_come_back_also_in_fragments(rig: rigs.Rig, family: str) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        with (
            _socket(rig, "external", family, (socket.SOCK_DGRAM, 0)) as outside,
            _socket(rig, "mediabot", family, (socket.SOCK_DGRAM, 0)) as pod,
        ):
            outside.bind((of(family, OUTSIDE), PORT))
            # The first one above the path's MTU is lost to the answer that says so.
            for size in (1, 1200, 1472, 1472, 4000, 4000, 9000):
                pod.sendto(b"x" * size, (of(family, OUTSIDE), PORT))
            sizes = set()
            for content, source in _received(outside):
                assert source[0] == of(family, EGRESS_IP)
                sizes.add(len(content))
                outside.sendto(content, source)
            assert sizes == {1, 1200, 1472, 4000, 9000}
            assert {len(content) for content, _ in _received(pod)} >= {1, 1200, 4000, 9000}
        assert rig.lab.leaks() == 0


def _received(at: socket.socket) -> Iterator[tuple[bytes, tuple[str, int]]]:
    """What comes until nothing comes any more."""
    while True:
        try:
            content, source = at.recvfrom(65536)
        except TimeoutError:
            return
        at.settimeout(0.5)
        yield content, source[:2]


@FAMILIES
async def test_an_echo_is_answered_and_seen_from_the_egress_ip(rig: rigs.Rig, family: str) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        protocol, ask, answer = ECHO[family]
        with (
            _socket(rig, "external", family, (socket.SOCK_RAW, protocol)) as outside,
            _socket(rig, "mediabot", family, (socket.SOCK_RAW, protocol)) as pod,
        ):
            pod.sendto(_echo(family, ask), (of(family, OUTSIDE), 0))
            seen = next(source for kind, source in _icmp(outside, family) if kind == ask)
            assert seen == of(family, EGRESS_IP)
            assert any(kind == answer for kind, _ in _icmp(pod, family))
        assert rig.lab.leaks() == 0


def _echo(family: str, kind: int) -> bytes:
    """The kernel fills in ICMPv6's checksum."""
    content = struct.pack(">BBHHH", kind, 0, 0, 4711, 1) + b"ebbgate "
    if family == "ipv6":
        return content
    total = sum(struct.unpack(f">{len(content) // 2}H", content))
    total = (total & 0xFFFF) + (total >> 16)
    return content[:2] + struct.pack(">H", ~total & 0xFFFF) + content[4:]


def _icmp(at: socket.socket, family: str) -> Iterator[tuple[int, str]]:
    for content, source in _received(at):
        yield (content[20] if family == "ipv4" else content[0]), source[0]


@FAMILIES
async def test_a_protocol_that_nobody_knows_is_translated_too(rig: rigs.Rig, family: str) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        with (
            _socket(rig, "external", family, (socket.SOCK_RAW, UNKNOWN_PROTOCOL)) as outside,
            _socket(rig, "mediabot", family, (socket.SOCK_RAW, UNKNOWN_PROTOCOL)) as pod,
        ):
            pod.sendto(b"anything", (of(family, OUTSIDE), 0))
            sources = [source[0] for _, source in _received(outside)]
            assert sources == [of(family, EGRESS_IP)]
        assert rig.lab.leaks() == 0


@FAMILIES
async def test_sctp_is_translated_with_its_ports(rig: rigs.Rig, family: str) -> None:
    """An association's first packet, made by hand: this kernel knows SCTP in conntrack, if not in sockets."""
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        with (
            _socket(rig, "external", family, (socket.SOCK_RAW, socket.IPPROTO_SCTP)) as outside,
            _socket(rig, "mediabot", family, (socket.SOCK_RAW, socket.IPPROTO_SCTP)) as pod,
        ):
            pod.sendto(_sctp_init(5000, PORT), (of(family, OUTSIDE), 0))
            content, source = next(_received(outside))
            packet = content[20:] if family == "ipv4" else content
            assert source[0] == of(family, EGRESS_IP)
            assert struct.unpack_from(">H", packet, 2)[0] == PORT
        assert rig.lab.leaks() == 0


def _sctp_init(source_port: int, destination_port: int) -> bytes:
    """RFC 9260: common header with a CRC32c, and an INIT chunk."""
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 0x1234, 65535, 1, 1, 0x5678)
    head = struct.pack(">HHI", source_port, destination_port, 0)
    return head + struct.pack("<I", _crc32c(head + bytes(4) + chunk)) + chunk


def _crc32c(data: bytes) -> int:
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


@FAMILIES
async def test_what_is_too_big_is_answered_with_the_tunnels_mtu(rig: rigs.Rig, family: str) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        with _socket(rig, "mediabot", family, (socket.SOCK_DGRAM, 0)) as pod:
            level, discover, mtu = (
                (socket.IPPROTO_IP, 10, 14) if family == "ipv4" else (socket.IPPROTO_IPV6, 23, 24)
            )
            pod.setsockopt(level, discover, 2)  # IP_PMTUDISC_DO: don't fragment
            pod.connect((of(family, OUTSIDE), PORT))
            assert pod.getsockopt(level, mtu) == 1500
            pod.send(b"x" * 1440)
            await rigs.until(lambda: pod.getsockopt(level, mtu) == 1450, "the path's MTU is known")


@FAMILIES
async def test_an_answer_that_is_too_big_for_the_tunnel_is_answered_to_the_outside(
    rig: rigs.Rig, family: str
) -> None:
    """PMTU the other way: the gateway itself has to tell the outside host, from an address that it knows."""
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        with (
            _socket(rig, "external", family, (socket.SOCK_DGRAM, 0)) as outside,
            _socket(rig, "mediabot", family, (socket.SOCK_DGRAM, 0)) as pod,
        ):
            level, discover = (socket.IPPROTO_IP, 10) if family == "ipv4" else (socket.IPPROTO_IPV6, 23)
            outside.setsockopt(level, discover, 2)
            outside.bind((of(family, OUTSIDE), PORT))
            pod.sendto(b"hello", (of(family, OUTSIDE), PORT))
            _, back = next(_received(outside))
            outside.connect(back)
            mtu = 14 if family == "ipv4" else 24
            outside.send(b"x" * 1440)
            await rigs.until(lambda: outside.getsockopt(level, mtu) == 1450, "the outside knows the MTU")


async def test_a_family_without_an_egress_ip_drops_and_the_other_works(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        group = rigs.path_group()
        no_slot = rows.Paths(paths=(rows.Path("node2", "10.168.60.12", 0),), buckets=(0,) * rows.BUCKETS)
        shared = rigs.shared_rows(rows.Group(policy=group.policy, ipv4=group.ipv4, ipv6=no_slot))
        revision = await plan.publish({subjects.ALL_SCOPE: shared})
        await rigs.applied(bus, "node1", revision)
        assert rig.curl("mediabot") == EGRESS_IP
        assert rig.curl("mediabot", seconds=1, site=rigs.SITE6) == ""
        assert rig.curl("xwing", site=rigs.SITE6) == topology.twin(NODE_IP)
        assert rig.lab.leaks() == 0
