"""Nodes that have no IPv4 among themselves: the tunnel's outer packets are IPv6, and all goes by it."""

import pytest

from ebbgate_bus.contracts import rows, subjects
from ebbgate_lab import topology
from tests.kernel import rig as rigs

EGRESS_IP, NODE_IP = "10.168.60.100", "10.168.60.11"
_WITNESS = """
table inet outer {
  counter ipv4 { }
  counter ipv6 { }
  chain input {
    type filter hook input priority raw; policy accept;
    meta nfproto ipv4 udp dport 19021 counter name ipv4
    meta nfproto ipv6 udp dport 19021 counter name ipv6
  }
}
"""


def _rows() -> dict[str, dict[str, object]]:
    """As the resolver writes them where nodes have only IPv6."""
    gateway = topology.twin("10.168.60.12")
    peers = {
        subjects.peer(node): rows.Peer(addresses=(topology.twin(f"10.168.60.1{number}"),))
        for number, node in enumerate(rigs.NODES, start=1)
    }
    return {
        subjects.ALL_SCOPE: rigs.shared_rows(rigs.path_group(gateway=gateway)) | peers,
        **{subjects.node_scope(node): rigs.node_rows(node) for node in rigs.NODES},
    }


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_traffic_of_both_families_goes_through_a_tunnel_of_ipv6(rig: rigs.Rig, family: str) -> None:
    site, of = (rigs.SITE, str) if family == "ipv4" else (rigs.SITE6, topology.twin)
    rig.lab.run("node2", "nft", "-f", "-", text=_WITNESS)
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        revision = await plan.publish(_rows())  # type: ignore[arg-type]
        for node in rigs.NODES:
            assert (await rigs.applied(bus, node, revision)).problems == ()
        assert rig.curl("mediabot", site=site) == of(EGRESS_IP)
        assert rig.curl("xwing", site=site) == of(NODE_IP)
        assert _outer(rig, "ipv6") > 0
        assert _outer(rig, "ipv4") == 0
        assert "mtu 1430" in rig.lab.run("node1", "ip", "link", "show", "ebbgate0")
        assert rig.lab.leaks() == 0


def _outer(rig: rigs.Rig, family: str) -> int:
    listing = rig.lab.run("node2", "nft", "list", "counter", "inet", "outer", family)
    return int(listing.split("packets", 1)[1].split()[0])
