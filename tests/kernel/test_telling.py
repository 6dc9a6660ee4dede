"""What the kernel counts and drops is said on the bus, with policy and pod."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from nats.aio.msg import Msg

from ebbgate_bus.contracts import codec, reports, rows, streams, subjects
from ebbgate_bus.runtime import connection, follower
from tests.kernel import rig as rigs

EGRESS_IP, OUTSIDE = "10.168.60.100", "10.168.60.13"
PACKETS = 40


async def _stats(bus: connection.Bus, node: str) -> reports.Stats:
    for stored in await follower.read(bus, streams.STATUS, [subjects.stats(node)]):
        said = codec.decode(stored.subject, stored.payload)
        assert isinstance(said, reports.Stats)
        return said
    return reports.Stats(node=node)


def _send(rig: rigs.Rig, pod: str, target: str, count: int = PACKETS) -> None:
    """Datagrams, all of one flow."""
    with rig.lab.entered(pod), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(b"x" * 100, (target, 9000))


async def test_traffic_is_counted_by_policy_and_by_egress_ip(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        _send(rig, "mediabot", OUTSIDE)
        async with asyncio.timeout(rigs.DEADLINE_S):
            while not (source := await _stats(bus, "node1")).policies.get("egress-sample"):
                await asyncio.sleep(0.05)
            while not (gateway := await _stats(bus, "node2")).slots.get("77", _NONE).arrived.packets:
                await asyncio.sleep(0.05)
        of_policy = source.policies["egress-sample"]
        assert of_policy.steered.packets == PACKETS
        assert of_policy.steered.bytes >= PACKETS * 128
        assert of_policy.connections == 1
        assert gateway.slots["77"].egress_ip == EGRESS_IP
        assert gateway.slots["77"].arrived.packets == PACKETS


_NONE = reports.SlotTraffic(egress_ip="")


@pytest.fixture
def heard() -> list[reports.Dropped]:
    return []


async def _hear(bus: connection.Bus, heard: list[reports.Dropped]) -> None:
    """From now on, what is told of drops goes into `heard`."""

    async def hear(message: Msg) -> None:
        said = codec.decode(message.subject, message.data)
        assert isinstance(said, reports.Dropped)
        heard.append(said)

    await bus.subscribe(f"{subjects.ROOT}.drop.>", cb=hear)


async def test_a_drop_is_told_with_its_reason_pod_and_policy(
    rig: rigs.Rig, heard: list[reports.Dropped]
) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        await _hear(bus, heard)
        await bus.flush()
        no_slot = rows.Paths(paths=(rows.Path("node2", "10.168.60.12", 0),), buckets=(0,) * rows.BUCKETS)
        group = rows.Group(policy="egress-sample", ipv4=no_slot)
        await rigs.applied(bus, "node1", await plan.publish({subjects.ALL_SCOPE: rigs.shared_rows(group)}))

        def told() -> bool:
            _send(rig, "mediabot", "192.0.2.1", count=1)
            return bool(heard)

        await rigs.until(told, "a drop is told")
        first = heard[0]
        assert (first.node, first.reason, first.policy) == ("node1", "no_egress_ip", "egress-sample")
        assert (first.pod, first.source) == ("default/mediabot", "10.244.1.10")
        assert (first.destination, first.protocol, first.destination_port) == ("192.0.2.1", 17, 9000)


async def test_a_flood_of_drops_is_counted_in_full_and_told_in_part(
    rig: rigs.Rig, heard: list[reports.Dropped]
) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        await _hear(bus, heard)
        await rigs.applied(bus, "node1", await plan.publish({subjects.ALL_SCOPE: rigs.shared_rows(_EMPTY)}))
        _send(rig, "mediabot", "192.0.2.1", count=5000)
        async with asyncio.timeout(rigs.DEADLINE_S):
            while (await _stats(bus, "node1")).drops.get("no_gateway", 0) < 5000:
                await asyncio.sleep(0.05)
        assert 0 < len(heard) < 1000


_EMPTY = rows.Group(policy="egress-sample")


async def test_a_stranger_at_the_tunnel_is_dropped_counted_and_named(
    rig: rigs.Rig, heard: list[reports.Dropped]
) -> None:
    """The outside host builds a VXLAN packet as a node would."""
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        await _hear(bus, heard)
        await bus.flush()
        frame = _vxlan(rigs.SLOT, "10.244.1.10", OUTSIDE)
        with rig.lab.entered("external"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(frame, ("10.168.60.12", 19021))
        await rigs.until(lambda: heard, "the stranger is told of")
        assert (heard[0].reason, heard[0].source) == ("unknown_peer", OUTSIDE)
        async with asyncio.timeout(rigs.DEADLINE_S):
            while (await _stats(bus, "node2")).drops.get("unknown_peer", 0) != 1:
                await asyncio.sleep(0.05)
        assert rig.lab.leaks() == 0


@pytest.mark.parametrize("slot", [rigs.SLOT + 5, 2, 4096])
async def test_a_slot_that_is_not_the_gateways_drops(rig: rigs.Rig, slot: int) -> None:
    """Sent by a node that is a peer, from a pod that is none of ours."""
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        frame = _vxlan(slot, "10.244.1.99", OUTSIDE)
        with (
            rig.lab.entered("external"),
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as outside,
        ):
            outside.settimeout(1.0)
            with rig.lab.entered("node1"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                for _ in range(5):
                    peer.sendto(frame, ("10.168.60.12", 19021))
            assert not any(FORGED in frame for frame in _until_quiet(outside))
        assert rig.lab.leaks() == 0


def _until_quiet(at: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(TimeoutError):
        while True:
            yield at.recv(65536)


FORGED = b"payload of a forged packet"


def _vxlan(vni: int, source: str, destination: str) -> bytes:
    """VXLAN header, Ethernet, IPv4, UDP."""
    content = FORGED
    udp = (
        (4000).to_bytes(2, "big")
        + (9000).to_bytes(2, "big")
        + (8 + len(content)).to_bytes(2, "big")
        + b"\0\0"
    )
    total = 20 + len(udp) + len(content)
    head = bytes([0x45, 0]) + total.to_bytes(2, "big") + bytes([0, 0, 0, 0, 64, 17, 0, 0])
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    words = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    words = (words & 0xFFFF) + (words >> 16)
    head = head[:10] + (~words & 0xFFFF).to_bytes(2, "big") + head[12:]
    ethernet = b"\x02" * 12 + b"\x08\x00"
    return bytes([8, 0, 0, 0]) + vni.to_bytes(3, "big") + b"\0" + ethernet + head + udp + content
