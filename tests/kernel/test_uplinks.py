"""A gateway with two interfaces: traffic leaves by the one that holds its egress IP, and comes back there.

node2 has a second uplink with a next hop of its own; the outside host has a foot in both networks and an
address that both lead to, so that only the way taken tells.
"""

import asyncio

import pytest

from ebbgate_bus.contracts import rows, subjects
from ebbgate_bus.runtime import connection
from ebbgate_lab import topology
from tests.kernel import rig as rigs

FIRST, SECOND = "10.168.60.100", "10.169.0.100"
SERVICE = "203.0.113.5"
HOP, OTHER_HOP = "10.169.0.1", "10.169.0.2"
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])


def of(family: str, address: str) -> str:
    return address if family == "ipv4" else topology.twin(address)


def _lay_second_network(rig: rigs.Rig) -> None:
    """A cable from node2 to the outside host, which is router and server at once there."""
    lab = rig.lab
    peer = f"{lab.prefix}external"
    lab.run("node2", "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", peer)
    for place, addresses in (("node2", ("10.169.0.12", SECOND)), ("external", (HOP, OTHER_HOP))):
        for address in addresses:
            lab.run(place, "ip", "addr", "add", f"{address}/24", "dev", "eth1")
            lab.run(place, "ip", "addr", "add", f"{topology.twin(address)}/64", "dev", "eth1", "nodad")
        lab.run(place, "ip", "link", "set", "eth1", "up")
    for family in ("ipv4", "ipv6"):
        lab.run("external", "ip", "addr", "add", of(family, SERVICE), "dev", "lo")
        lab.run(
            "node2", "ip", "route", "add", "default", "via", of(family, HOP), "dev", "eth1", "metric", "5000"
        )
        length = "32" if family == "ipv4" else "128"
        lab.run(
            "underlay",
            "ip",
            "route",
            "add",
            f"{of(family, SERVICE)}/{length}",
            "via",
            of(family, "10.168.60.13"),
        )
    lab.run("underlay", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    lab.run("external", "nft", "-f", "-", text=_WITNESS)


_WITNESS = f"""
table inet ways {{
  counter eth0 {{ }}
  counter eth1 {{ }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    iifname "eth0" ip daddr {SERVICE} counter name eth0
    iifname "eth1" ip daddr {SERVICE} counter name eth1
    iifname "eth0" ip6 daddr {topology.twin(SERVICE)} counter name eth0
    iifname "eth1" ip6 daddr {topology.twin(SERVICE)} counter name eth1
  }}
}}
"""


def _seen_by(rig: rigs.Rig, interface: str) -> int:
    listing = rig.lab.run("external", "nft", "list", "counter", "inet", "ways", interface)
    return int(listing.split("packets", 1)[1].split()[0])


def _site(family: str) -> str:
    return f"http://{SERVICE}/" if family == "ipv4" else f"http://[{topology.twin(SERVICE)}]/"


async def _egress(
    bus: connection.Bus,
    plan: rigs.Plan,
    ip: str,
    interface: str,
    pods: dict[str, rows.Endpoint] | None = None,
) -> None:
    """mediabot leaves by node2 with `ip` of `interface`."""
    own = {
        subjects.egress("node2", slot): rows.Egress(egress_ip=at, interface=interface, policies=("p",))
        for slot, at in ((rigs.SLOT, ip), (rigs.SLOT + 1, topology.twin(ip)))
    }
    revision = await plan.publish(
        {
            subjects.ALL_SCOPE: rigs.shared_rows(),
            subjects.node_scope("node1"): rigs.node_rows("node1"),
            subjects.node_scope("node2"): own | (pods or {}),
        }
    )
    for node in rigs.NODES:
        said = await rigs.applied(bus, node, revision)
        assert said.problems == (), said


@FAMILIES
async def test_traffic_leaves_by_the_interface_of_its_egress_ip_and_comes_back_there(
    rig: rigs.Rig, family: str
) -> None:
    _lay_second_network(rig)
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        await _egress(bus, plan, FIRST, "eth0")
        assert rig.curl("mediabot", site=_site(family)) == of(family, FIRST)
        assert _seen_by(rig, "eth1") == 0
        await _egress(bus, plan, SECOND, "eth1")
        before = _seen_by(rig, "eth0")
        assert rig.curl("mediabot", site=_site(family)) == of(family, SECOND)
        assert _seen_by(rig, "eth1") > 0
        assert _seen_by(rig, "eth0") == before
        # Others on that node still leave by the default route.
        assert rig.curl("gozanti", site=_site(family)) == of(family, "10.168.60.12")
        assert rig.lab.leaks() == 0


@FAMILIES
async def test_a_pod_on_the_gateway_itself_leaves_by_that_interface_too(rig: rigs.Rig, family: str) -> None:
    _lay_second_network(rig)
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        ips = ("10.244.2.10", topology.twin("10.244.2.10"))
        pods = {
            subjects.endpoint("node2", ip): rows.Endpoint(ip=ip, set="s1", bucket=9, pod="default/gozanti")
            for ip in ips
        }
        await _egress(bus, plan, SECOND, "eth1", pods)
        before = _seen_by(rig, "eth0")
        assert rig.curl("gozanti", site=_site(family)) == of(family, SECOND)
        assert _seen_by(rig, "eth0") == before
        assert rig.lab.leaks() == 0


async def test_a_next_hop_that_changes_is_followed_and_a_lost_one_drops(rig: rigs.Rig) -> None:
    _lay_second_network(rig)
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        await _egress(bus, plan, SECOND, "eth1")
        assert rig.curl("mediabot", site=_site("ipv4")) == SECOND
        rig.lab.run("node2", "ip", "route", "del", "default", "via", HOP)
        rig.lab.run(
            "node2", "ip", "route", "add", "default", "via", OTHER_HOP, "dev", "eth1", "metric", "5000"
        )
        async with asyncio.timeout(rigs.DEADLINE_S):
            while OTHER_HOP not in rig.lab.run("node2", "ip", "route", "show", "table", "all"):
                await asyncio.sleep(0.02)
            while f"via {HOP} " in rig.lab.run("node2", "ip", "route", "show", "table", "all"):
                await asyncio.sleep(0.02)
        assert rig.curl("mediabot", site=_site("ipv4")) == SECOND
        # Down: the address still is the node's, but nothing may leave by the other interface with it.
        before = _seen_by(rig, "eth0")
        rig.lab.run("node2", "ip", "link", "set", "eth1", "down")
        assert rig.curl("mediabot", seconds=1, site=_site("ipv4")) in ("", SECOND)
        rig.lab.run("node2", "ip", "link", "set", "eth1", "up")
        assert _seen_by(rig, "eth0") >= before


async def test_a_table_of_the_administrators_gives_the_next_hop(rig: rigs.Rig) -> None:
    """As cloud images do it: the second interface's default route is in a table that a rule leads to."""
    _lay_second_network(rig)
    rig.lab.run("node2", "ip", "route", "del", "default", "via", HOP)
    rig.lab.run("node2", "ip", "route", "add", "default", "via", OTHER_HOP, "dev", "eth1", "table", "101")
    rig.lab.run("node2", "ip", "rule", "add", "from", "10.169.0.0/24", "lookup", "101")
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        await _egress(bus, plan, SECOND, "eth1")
        before = _seen_by(rig, "eth0")
        assert rig.curl("mediabot", site=_site("ipv4")) == SECOND
        assert _seen_by(rig, "eth0") == before
