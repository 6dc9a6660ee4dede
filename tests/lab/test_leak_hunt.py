"""The leak hunt in short: half a minute, always the same changes. And that the judge finds what is wrong."""

import pathlib

import msgspec
import pytest

from ebbgate_lab import lab
from ebbgate_lab.hunt import capture, changes, hunter, judge, traffic, world

PREFIX = "eht-"
SEED = 5
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
    assert min(account.verdict.by_kind) >= LEAST_OF_EACH_KIND, account.text()
    assert account.verdict.steered >= LEAST_OF_EACH_KIND, account.text()


OLD = changes.first()
"""pod0 is of team red: all it sends leaves as .100; pod1 of team blue: as .110, but for .201."""
NEW = msgspec.structs.replace(OLD, policies={})
PERIODS = [
    judge.Period(0, 20 * SECOND_NS, OLD, "the beginning"),
    judge.Period(10 * SECOND_NS, judge.FOREVER_NS, NEW, "no policies"),
]


def packet(source: str, *, at_s: int, pod: int = 0, ttl: int = capture.POD_TTL - 2) -> capture.Packet:
    return capture.Packet(at_s * SECOND_NS, source, world.DESTINATIONS[0], 17, ttl, pod, traffic.DATAGRAM, 1)


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
    ],
)
def test_around_a_change_old_and_new_are_right_and_else_one_of_them(
    source: str, at_s: int, right: bool
) -> None:
    found = judge.judge([packet(source, at_s=at_s)], PERIODS)
    assert found.judged == 1
    assert (not found.wrong) == right


def test_what_a_node_says_itself_is_not_a_pods_but_a_pods_address_never_leaves() -> None:
    own, leaked = (packet(source, at_s=5, ttl=64) for source in ("10.168.60.11", "10.244.1.10"))
    found = judge.judge([own, leaked], PERIODS)
    assert (found.others, found.judged) == (1, 1)
    assert [wrong.packet for wrong in found.wrong] == [leaked]


@pytest.mark.parametrize(
    ("pod", "destination", "expected"),
    [
        (0, "10.168.60.201", {"10.168.60.100"}),
        (1, "10.168.60.13", {"10.168.60.110"}),
        (1, "10.168.60.201", {"10.168.60.11"}),
        (2, "10.168.60.13", {"10.168.60.11"}),
        (4, "10.168.60.13", {"10.168.60.14"}),
    ],
)
def test_the_oracle_reads_policies_as_the_docs_say(pod: int, destination: str, expected: set[str]) -> None:
    assert world.answers(OLD, world.PODS[pod], destination) == expected


def test_the_oracle_drops_without_gateway_or_address() -> None:
    lost = msgspec.structs.replace(OLD, roles={name: () for name in world.NODES})
    bare = msgspec.structs.replace(OLD, addresses={name: () for name in world.NODES})
    for state in (lost, bare):
        assert world.answers(state, world.PODS[0], "10.168.60.13") == {None}


def test_the_packets_that_are_sent_are_recognised() -> None:
    head = bytes((0x45, 0, 0, 0, 0, 0, 0, 0, 200, 1)) + bytes(10)
    assert capture.whose(head + traffic.echo_request(3, 77)) == (3, traffic.ECHO, 77)
    datagram = bytes(2) + traffic.port(4, traffic.DATAGRAM).to_bytes(2, "big") + bytes(4) + b"\0\0\0\x09"
    head = bytes((0x45, 0, 0, 0, 0, 0, 0, 0, 200, 17)) + bytes(10)
    assert capture.whose(head + datagram) == (4, traffic.DATAGRAM, 9)
