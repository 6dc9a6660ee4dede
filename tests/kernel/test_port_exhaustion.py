"""More connections to one place than an egress IP has ports: the rest is dropped, counted and shown."""

import asyncio
import socket
from collections.abc import Iterator

from ebbgate_bus.contracts import codec, reports, streams, subjects
from ebbgate_bus.runtime import connection, follower
from tests.kernel import rig as rigs

EGRESS_IP, OUTSIDE, PORT = "10.168.60.100", "10.168.60.13", 9000
FLOWS = 66_000
"""An address has 64,512 ports above 1,023; each pod has so many too, so that two pods are needed."""
_WITNESS = f"""
table ip wrong {{
  counter right {{ }}
  counter others {{ }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    udp dport {PORT} ip saddr {EGRESS_IP} counter name right
    udp dport {PORT} ip saddr != {EGRESS_IP} counter name others
  }}
}}
"""


def _count(rig: rigs.Rig, name: str) -> int:
    listing = rig.lab.run("external", "nft", "list", "counter", "ip", "wrong", name)
    return int(listing.split("packets", 1)[1].split()[0])


def _flows(pod: str, first: int, count: int) -> Iterator[bytes]:
    """Datagrams from one port after the other."""
    for port in range(first, first + count):
        head = port.to_bytes(2, "big") + PORT.to_bytes(2, "big") + (9).to_bytes(2, "big") + b"\0\0"
        yield head + b"x"


def _send(rig: rigs.Rig, pod: str, count: int) -> None:
    with rig.lab.entered(pod), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as sender:
        for datagram in _flows(pod, 1024, count):
            sender.sendto(datagram, (OUTSIDE, 0))


async def _exhausted(bus: connection.Bus) -> int:
    for stored in await follower.read(bus, streams.STATUS, [subjects.stats("node2")]):
        said = codec.decode(stored.subject, stored.payload)
        assert isinstance(said, reports.Stats)
        return said.drops.get("ports_exhausted", 0)
    return 0


async def test_connections_without_a_port_are_dropped_and_counted_and_never_leave_unchanged(
    rig: rigs.Rig,
) -> None:
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        both = rigs.node_rows("node1") | rigs.node_rows("node1", pod="10.244.1.11")
        revision = await plan.publish(
            {
                subjects.ALL_SCOPE: rigs.shared_rows(),
                subjects.node_scope("node1"): both,
                subjects.node_scope("node2"): rigs.node_rows("node2"),
            }
        )
        for node in rigs.NODES:
            await rigs.applied(bus, node, revision)
            rig.lab.run(node, "sysctl", "-qw", "net.netfilter.nf_conntrack_max=262144", check=False)
        rig.lab.run("external", "nft", "-f", "-", text=_WITNESS)
        for pod in ("mediabot", "xwing"):
            await asyncio.to_thread(_send, rig, pod, FLOWS // 2)
        async with asyncio.timeout(60):
            while not await _exhausted(bus):
                await asyncio.sleep(0.1)
        assert _count(rig, "others") == 0
        assert _count(rig, "right") > 60_000
        assert rig.lab.leaks() == 0
