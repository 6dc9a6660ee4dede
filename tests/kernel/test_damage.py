"""Each thing of ours taken away, one by one, under traffic and with nobody there to repair it: nothing leaks.

The programmer is killed first, so that the hole stays open as long as the test looks into it. What the pod
sends then has the egress IP or goes nowhere; afterwards a programmer comes and all is as it was.
"""

import asyncio
import sys

import pytest

from ebbgate_bus.contracts import rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_lab import topology
from ebbgate_programmer.core import firewall, layout, places
from tests.kernel import rig as rigs

EGRESS_IP, NODE_IP = "10.168.60.100", "10.168.60.11"
TRIES = 3
REPAIR_S = 20.0 * rigs.PATIENCE

_WITNESS = "".join(
    f"""
table {family} wrong {{
  counter sources {{ }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    tcp dport 80 {family} saddr != {wanted} counter name sources
  }}
}}
"""
    for family, wanted in (("ip", EGRESS_IP), ("ip6", topology.twin(EGRESS_IP)))
)
_CHAINS = sorted({(chain.table, chain.name) for chain in firewall.chains(places.PORT)})
_SETS = sorted({("map" if ":" in each.form else "set", each.table, each.name) for each in firewall.SETS})


def _both(text: str) -> str:
    return f"nft {text.format(ip='ip')}; nft {text.format(ip='ip6')}"


_DAMAGES = {
    **{
        f"table {name}": _both(f"delete table {{ip}} {name}") for name in (places.NFT_TABLE, places.NFT_GUARD)
    },
    **{f"chain {table} {name}": _both(f"flush chain {{ip}} {table} {name}") for table, name in _CHAINS},
    **{f"set {table} {name}": _both(f"flush {kind} {{ip}} {table} {name}") for kind, table, name in _SETS},
    **{
        f"rule {priority}": f"ip rule del priority {priority}; ip -6 rule del priority {priority}"
        for priority in (places.PRIORITY_TUNNEL, places.PRIORITY_CLASSIFY)
    },
    **{
        f"routes of {table}": f"ip route flush table {table}; ip -6 route flush table {table}"
        for table in (places.TABLE_CLASSIFY, places.TABLE_TUNNEL)
    },
    "route to the classifier": f"ip route del default table {places.TABLE_CLASSIFY} metric 1",
    "route to the tunnel": f"ip route del default table {places.TABLE_TUNNEL} metric 1",
    "device": f"ip link del {places.DEVICE}",
    "device down": f"ip link set {places.DEVICE} down",
    "all of nftables": "nft flush ruleset",
    "guard": "for link in {pins}/guard_*_link; do bpftool link detach pinned $link; rm $link; done",
    "take": "for link in {pins}/take_*_link; do bpftool link detach pinned $link; rm $link; done",
    "encap": "bpftool link detach pinned {pins}/encap_link; rm {pins}/encap_link",
    "decap": "bpftool link detach pinned {pins}/decap_link; rm {pins}/decap_link",
    "pins": "rm {pins}/*",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("node", rigs.NODES)
async def test_whatever_is_taken_away_nothing_leaks_and_all_comes_back(rig: rigs.Rig, node: str) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        rig.lab.run("external", "nft", "-f", "-", text=_WITNESS)
        await _until_right(rig, "at first")
        for what, damage in _DAMAGES.items():
            await _suffer(rig, node, what, damage)


async def _suffer(rig: rigs.Rig, node: str, what: str, damage: str) -> None:
    pins = rig.pins(node) / f"v{layout.LAYOUT}"
    rig.kill(node)
    rig.lab.run(node, "sh", "-c", damage.replace("{pins}", str(pins)))
    for _ in range(TRIES):
        seen = await asyncio.gather(*(asyncio.to_thread(_ask, rig, site) for site in (rigs.SITE, rigs.SITE6)))
        assert set(seen) <= {EGRESS_IP, topology.twin(EGRESS_IP), ""}, what
    assert _wrong(rig) == 0, f"without {what} of {node} packets leave with another source"
    if "ruleset" in damage:
        rig.lab.run(node, "nft", "-f", "-", text=topology.CNI_TABLE)
    ready = rig.log(node).count("programmer.ready")
    rig.start(node)
    await rigs.until(lambda: rig.log(node).count("programmer.ready") > ready, "all is put back")
    await _until_right(rig, what)
    assert _wrong(rig) == 0, f"while {what} of {node} came back packets left with another source"
    assert rig.lab.leaks() == 0, what


_UNTUNNELLED = """
table ip untunnelled {
  counter answers { }
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname "eth0" ip saddr 10.168.60.13 ip daddr 10.244.1.10 counter name answers
  }
}
"""


_SPEAKER = """
import socket, time
listening = socket.create_server(("10.168.60.13", 9000))
connection, peer = listening.accept()
while True:
    connection.send(peer[0].encode() + b" ")
    time.sleep(0.02)
"""
"""Says over one connection without pause whom it speaks to."""


async def test_answers_go_by_the_tunnel_or_nowhere(rig: rigs.Rig) -> None:
    """To a node that has forgotten the connection they would look like a stranger's, opened to the pod; and
    what the pod answers to such a one leaves with its own address.
    """
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        rig.lab.run("node1", "nft", "-f", "-", text=_UNTUNNELLED)
        rig.add(rig.start_in("external", sys.executable, "-c", _SPEAKER, log="speaker"))
        await rigs.until(lambda: "9000" in rig.lab.run("external", "ss", "-ltn"), "somebody listens")
        rig.add(rig.start_in("mediabot", "bash", "-c", "cat < /dev/tcp/10.168.60.13/9000", log="heard"))
        await rigs.until(lambda: _heard(rig), "words")
        rig.kill("node2")
        rig.lab.run("node2", "nft", "delete", "table", "ip", places.NFT_TABLE)
        await rigs.until(lambda: _packets(rig, "node2", _GUARDED, "ct direction reply"), "answers dropped")
        assert _packets(rig, "node1", "table ip untunnelled", "packets") == 0
        rig.start("node2")
        count = len(_heard(rig))
        await rigs.until(lambda: len(_heard(rig)) > count + 5, "words go on")
        assert set(_heard(rig)) == {EGRESS_IP}


def _heard(rig: rigs.Rig) -> list[str]:
    return (rig.home / "heard").read_text().split()


_GUARDED = f"chain ip {places.NFT_GUARD} leaving"


def _packets(rig: rigs.Rig, node: str, listed: str, line: str) -> int:
    """Counted by lines of a listing."""
    listing = rig.lab.run(node, "nft", "list", *listed.split())
    counted = (each.split("packets", 1)[1] for each in listing.splitlines() if line in each)
    return sum(int(each.split()[0]) for each in counted)


@pytest.mark.parametrize("pin", ["*", "route", "classify", "encap"])
async def test_the_plan_is_followed_after_pins_were_taken_away(rig: rigs.Rig, pin: str) -> None:
    """Long before the next look at everything. A route that kept the program of before would go on asking
    maps that nobody writes to any more.
    """
    rig.resync_s = 600.0
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        rig.lab.run("node1", "sh", "-c", f"rm {rig.pins('node1')}/v{layout.LAYOUT}/{pin}")
        everything, elsewhere = ("0.0.0.0/0", "::/0"), ("192.0.2.0/24", "2001:db8::/32")
        for excluded, sources in ((elsewhere, EGRESS_IP), (everything, NODE_IP)):
            revision = await plan.publish({subjects.ALL_SCOPE: _excluding(excluded)})
            async with asyncio.timeout(REPAIR_S):
                while (await rigs.applied(bus, "node1", revision)).problems:
                    await asyncio.sleep(0.05)
            seen = [_ask(rig, site) for site in (rigs.SITE, rigs.SITE6)]
            assert seen == [sources, topology.twin(sources)], excluded


def _excluding(cidrs: tuple[str, ...]) -> dict[str, Message]:
    """The first scenario, whose set leaves these alone now."""
    found = rigs.shared_rows()
    place = subjects.routes("s1", 0)
    held = found[place]
    assert isinstance(held, rows.Routes)
    routes = {route.cidr: route for route in held.routes}
    routes |= {cidr: rows.Route(cidr, rows.Action.EXCLUDE, "", "egress-sample") for cidr in cidrs}
    return found | {
        place: rows.Routes(policies=held.policies, routes=tuple(routes[cidr] for cidr in sorted(routes)))
    }


def _ask(rig: rigs.Rig, site: str) -> str:
    return rig.lab.run("mediabot", "curl", "-s", "-m", "0.4", site, check=False)


async def _until_right(rig: rigs.Rig, what: str) -> None:
    async with asyncio.timeout(REPAIR_S):
        for site, wanted in ((rigs.SITE, EGRESS_IP), (rigs.SITE6, topology.twin(EGRESS_IP))):
            while await asyncio.to_thread(_ask, rig, site) != wanted:
                assert _wrong(rig) == 0, what


def _wrong(rig: rigs.Rig) -> int:
    """Requests that came to nginx's port from another source than the egress IP."""
    listings = [
        rig.lab.run("external", "nft", "list", "counter", family, "wrong", "sources")
        for family in ("ip", "ip6")
    ]
    return sum(int(listing.split("packets", 1)[1].split()[0]) for listing in listings)
