"""The leak hunt in short: half a minute, always the same changes. And that the judge finds what is wrong."""

import pathlib
import socket
import struct

import msgspec
import pytest

from ebbgate_lab import lab, topology
from ebbgate_lab.hunt import capture, changes, hunter, judge, packets, world

PREFIX = "eht-"
SEED = 15
SECONDS = 25.0
LEAST_CHANGES = 8
LEAST_OF_EACH_KIND = 300
SECOND_NS = 1_000_000_000


@pytest.mark.timeout(180)
async def test_no_packet_leaves_with_a_source_that_nobody_chose(tmp_path: pathlib.Path) -> None:
    scene = lab.Lab(prefix=PREFIX, folder=tmp_path / "lab", network=hunter.network(PREFIX))
    try:
        account = await hunter.hunt(scene, seed=SEED, seconds=SECONDS)
    finally:
        scene.down()
    print(account.text())
    wrong = "\n".join(each.text() for each in account.verdict.wrong[:20])
    assert not account.verdict.wrong, f"{account.text()}\n{wrong}"
    assert account.lost == 0
    assert account.changes >= LEAST_CHANGES
    assert min(*account.verdict.by_kind, account.verdict.ipv6) >= LEAST_OF_EACH_KIND, account.text()
    assert account.verdict.steered >= LEAST_OF_EACH_KIND, account.text()


OLD = changes.first()
"""pod0 is of team red: all it sends leaves as .100, or as node2; pod1 of team blue: as node3, or as .110, but
for .201.
"""
NEW = msgspec.structs.replace(OLD, policies={})
PERIODS = [
    judge.Period(0, 20 * SECOND_NS, OLD, "the beginning"),
    judge.Period(10 * SECOND_NS, judge.FOREVER_NS, NEW, "no policies"),
]
SIX = topology.twin


def packet(source: str, *, at_s: int, ttl: int = capture.POD_TTL - 2) -> capture.Arrived:
    """Of pod0, to the first destination of the family."""
    to = next(each for each in world.DESTINATIONS if world.family(each) == world.family(source))
    return capture.Arrived(at_s * SECOND_NS, source, to, 17, ttl, 0, packets.DATAGRAM, 1)


@pytest.mark.parametrize(
    ("source", "at_s", "right"),
    [
        ("10.168.60.100", 5, True),
        ("10.168.60.11", 5, False),
        ("10.168.60.101", 5, False),
        ("10.244.1.10", 5, False),
        ("10.168.60.100", 15, True),
        ("10.168.60.11", 15, True),
        ("10.168.60.12", 15, False),
        ("10.168.60.100", 25, False),
        ("10.168.60.11", 25, True),
        (SIX("10.168.60.12"), 5, True),
        (SIX("10.168.60.100"), 5, False),
        (SIX("10.168.60.11"), 5, False),
        (SIX("10.244.1.10"), 5, False),
        (SIX("10.168.60.11"), 15, True),
        (SIX("10.168.60.12"), 25, False),
    ],
)
def test_around_a_change_old_and_new_are_right_and_else_one_of_them(
    source: str, at_s: int, right: bool
) -> None:
    found = judge.judge([packet(source, at_s=at_s)], PERIODS)
    assert found.judged == 1
    assert (not found.wrong) == right


def test_what_a_node_says_itself_is_not_a_pods_but_a_pods_address_never_leaves() -> None:
    own, neighbour = packet("10.168.60.11", at_s=5, ttl=64), packet("fe80::1", at_s=5, ttl=255)
    leaked = [packet(source, at_s=5, ttl=64) for source in ("10.244.1.10", SIX("10.244.1.10"))]
    found = judge.judge([own, neighbour, *leaked], PERIODS)
    assert (found.others, found.judged) == (2, 2)
    assert [wrong.packet for wrong in found.wrong] == leaked


@pytest.mark.parametrize(
    ("pod", "destination", "expected"),
    [
        (0, "10.168.60.201", {"10.168.60.100"}),
        (1, "10.168.60.13", {"10.168.60.14"}),
        (1, "10.168.60.201", {"10.168.60.11"}),
        (2, "10.168.60.13", {"10.168.60.11"}),
        (4, "10.168.60.13", {"10.168.60.14"}),
        (0, SIX("10.168.60.201"), {SIX("10.168.60.12")}),
        (1, SIX("10.168.60.13"), {SIX("10.168.60.110")}),
        (1, SIX("10.168.60.201"), {SIX("10.168.60.11")}),
    ],
)
def test_the_oracle_reads_policies_as_the_docs_say(pod: int, destination: str, expected: set[str]) -> None:
    assert world.answers(OLD, world.PODS[pod], destination) == expected


@pytest.mark.parametrize("destination", ["10.168.60.13", SIX("10.168.60.13")])
def test_the_oracle_drops_without_gateway_or_address(destination: str) -> None:
    lost = msgspec.structs.replace(OLD, roles={name: () for name in world.NODES})
    bare = msgspec.structs.replace(OLD, addresses={name: world.NODES[name] for name in world.NODES})
    for state in (lost, bare):
        assert world.answers(state, world.PODS[0], destination) == {None}


def test_the_oracle_takes_the_newest_ipv6_address_for_an_interfaces_first() -> None:
    newer = {**OLD.addresses, "node2": (SIX("10.168.60.101"), *OLD.addresses["node2"])}
    state = msgspec.structs.replace(OLD, addresses=newer)
    assert world.answers(state, world.PODS[0], SIX("10.168.60.13")) == {SIX("10.168.60.101")}


def test_the_oracle_lets_pods_of_a_lost_node_go_as_before_or_unsteered() -> None:
    roles = {name: held for name, held in OLD.roles.items() if name != "node1"}
    state = msgspec.structs.replace(OLD, roles=roles, policies={}, left={"node1": OLD})
    assert world.answers(state, world.PODS[0], "10.168.60.13") == {"10.168.60.11", "10.168.60.100"}
    assert world.answers(state, world.PODS[4], "10.168.60.13") == {"10.168.60.14"}


PROTOCOLS = {
    packets.DATAGRAM: (socket.IPPROTO_UDP,) * 2,
    packets.SCTP: (socket.IPPROTO_SCTP,) * 2,
    packets.ECHO: (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6),
    packets.UNKNOWN: (packets.UNKNOWN_PROTOCOL,) * 2,
}


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_what_is_sent_is_recognised_in_both_families(kind: int) -> None:
    for family, protocol, wrap in zip(world.FAMILIES, PROTOCOLS[kind], (_ipv4, _ipv6), strict=True):
        header = struct.pack("!HHHH", 1, 2, 3, 4) if kind == packets.DATAGRAM else b""
        parsed = wrap(protocol, header + packets.payload(kind, family, 3, 77))
        assert parsed.ttl == 200
        assert packets.whose(parsed) == (3, kind, 77)


def test_each_fragment_tells_by_itself_whose_it_is() -> None:
    datagram = bytes(8) + packets.payload(packets.FRAGMENT, "ipv4", 3, 77)
    for begin in (0, 1480, 2960):
        part, more = datagram[begin : begin + 1480], begin + 1480 < len(datagram)
        by_ipv6 = struct.pack("!BBHI", socket.IPPROTO_UDP, 0, begin | more, 9)
        for parsed in (_ipv4(socket.IPPROTO_UDP, part, begin // 8 | more << 13), _ipv6(44, by_ipv6 + part)):
            assert (parsed.whole, parsed.offset) == (False, begin)
            assert packets.whose(parsed) == (3, packets.FRAGMENT, 77)


def _ipv4(protocol: int, body: bytes, fragment: int = 0) -> packets.Packet:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, fragment, 200, protocol, 0, bytes(4), bytes(4))
    return packets.parse_ipv4(head + body)


def _ipv6(protocol: int, body: bytes) -> packets.Packet:
    return packets.parse_ipv6(struct.pack("!IHBB", 6 << 28, 0, protocol, 200) + bytes(32) + body)
