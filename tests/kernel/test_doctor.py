"""`doctor` on a real node: a healthy one has no problem, and each thing that is broken is found, alone.

The programmers are stopped once the nodes are set up: a running one would put things right before `doctor`
comes. Each test undoes what it broke.
"""

import asyncio
import pathlib
import signal
from collections.abc import Iterator

import msgspec
import pytest

from ebbgate_lab import topology
from ebbgate_programmer.core.symptoms import Finding, Severity
from tests.kernel import rig as rigs


@pytest.fixture(scope="module")
def rig(_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[rigs.Rig]:
    """One for all tests here, of which none leaves a change."""
    home: pathlib.Path = tmp_path_factory.mktemp("doctor")
    made = rigs.Rig(topology.Topology(rigs.prefix("d")), home)
    try:
        made.remove_pins()
        made.lab.make()
        made.start_nats()
        asyncio.run(_set_up(made))
        for node in rigs.NODES:
            made.kill(node, signal.SIGTERM)
        yield made
    finally:
        made.stop()


async def _set_up(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)


def examine(rig: rigs.Rig, node: str) -> list[Finding]:
    told = rig.lab.run(node, *rig.programmer(node, "doctor"), "-o", "json", check=False)
    return msgspec.json.decode(told, type=list[Finding])


def trouble(found: list[Finding]) -> list[tuple[str, Severity]]:
    return sorted({(each.check, each.severity) for each in found if each.severity is not Severity.OK})


@pytest.mark.parametrize("node", rigs.NODES)
def test_a_healthy_node_has_no_problem_and_nothing_is_changed(rig: rigs.Rig, node: str) -> None:
    before = _state(rig, node)
    found = examine(rig, node)
    assert trouble(found) == [], found
    assert _state(rig, node) == before
    [peers] = [each for each in found if each.check == "peers"]
    assert peers.seen.startswith("1 asked on UDP 19021, none says no")


def _state(rig: rigs.Rig, node: str) -> list[str]:
    listings = (
        ("nft", "-s", "list", "ruleset"), ("ip", "rule"), ("ip", "-6", "rule"),
        ("ip", "route", "show", "table", "all"), ("ip", "-6", "route", "show", "table", "all"),
        ("ip", "-d", "link"), ("sysctl", "-a", "-r", "rp_filter|forward"),
    )  # fmt: skip
    return [rig.lab.run(node, *each) for each in listings] + sorted(map(str, rig.pins(node).rglob("*")))


PROBLEM, WARNING = Severity.PROBLEM, Severity.WARNING
MARKS = "add table ip stranger; add chain ip stranger c { type filter hook prerouting priority 0; }; "
TRICKS = {
    "rp_filter": (
        "sysctl -qw net.ipv4.conf.ebbgate0.rp_filter=1", "sysctl -qw net.ipv4.conf.ebbgate0.rp_filter=2",
        ("rp_filter", PROBLEM, "ebbgate0 is filtered strictly"),
    ),
    "forwarding": (
        "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=1",
        ("forwarding", PROBLEM, "net.ipv4.ip_forward is off"),
    ),
    "forwarding of IPv6": (
        "sysctl -qw net.ipv6.conf.all.forwarding=0", "sysctl -qw net.ipv6.conf.all.forwarding=1",
        ("forwarding", PROBLEM, "net.ipv6.conf.all.forwarding is off"),
    ),
    "forwarding of one device": (
        "sysctl -qw net.ipv4.conf.ebbgate0.forwarding=0", "sysctl -qw net.ipv4.conf.ebbgate0.forwarding=1",
        ("forwarding", PROBLEM, "net.ipv4.conf.ebbgate0.forwarding is off"),
    ),
    "iptables FORWARD DROP": (
        "iptables -P FORWARD DROP", "iptables -P FORWARD ACCEPT",
        ("forward", PROBLEM, "nft ip filter FORWARD drops what no rule accepts"),
    ),
    "firewalld": (
        "nft add table inet firewalld; add chain inet firewalld f { type filter hook forward priority 10; }; "
        "add rule inet firewalld f ct state established accept; add rule inet firewalld f reject",
        "nft delete table inet firewalld",
        ("forward", PROBLEM, "firewalld"),
    ),
    "a firewall that accepts some": (
        "nft add table inet some; "
        "add chain inet some f { type filter hook forward priority 10; policy drop; }; "
        "add rule inet some f ip saddr 10.244.0.0/16 accept",
        "nft delete table inet some",
        ("forward", WARNING, "only some rule may accept"),
    ),
    "a mark of ours written": (
        f"nft {MARKS} add rule ip stranger c meta mark set meta mark | 0x10", "nft delete table ip stranger",
        ("marks", PROBLEM, "writes bits 0x10"),
    ),
    "a mark of ours asked for": (
        f"nft {MARKS} add rule ip stranger c meta mark & 0xff == 0x1 accept", "nft delete table ip stranger",
        ("marks", WARNING, "asks for bits 0x7f"),
    ),
    "a mark by iptables": (
        "iptables -t mangle -A PREROUTING -j MARK --set-xmark 0x100/0x100",
        "iptables -t mangle -F PREROUTING",
        ("marks", PROBLEM, "-j MARK --set-xmark 0x100/0x100 writes bits 0x100"),
    ),
    "VXLAN on our port": (
        "ip link add vxlan9 type vxlan id 9 dstport 19021 remote 10.168.60.13", "ip link del vxlan9",
        ("vxlan", PROBLEM, "vxlan9 is a VXLAN device on UDP port 19021 too"),
    ),
    "NAT ahead of ours": (
        "nft add table ip early; add chain ip early p { type nat hook postrouting priority -199; }",
        "nft delete table ip early",
        ("nat", PROBLEM, "ip early p (priority -199) is asked before ours"),
    ),
    "a rule in our place": (
        "ip rule add pref 1922 from 192.0.2.1 lookup main",
        "ip rule del pref 1922 from 192.0.2.1 lookup main",
        ("ip rules", PROBLEM, "1922 (lookup 254) stands in our place"),
    ),
    "a rule with our marks": (
        "ip rule add pref 9 fwmark 0x200/0xf00 lookup 2004", "ip rule del pref 9",
        ("ip rules", PROBLEM, "fwmark 0x200/0xf00"),
    ),
    "a missing rule": (
        "ip rule del pref 1921", "ip rule add pref 1921 fwmark 0x1/0x1f7d lookup 19022",
        ("installed", PROBLEM, "the ipv4 rule 1921 (fwmark 0x1/0x1f7d lookup 19022) is missing"),
    ),
    "a missing route": (
        "ip route del blackhole default table 19022 metric 4096",
        "ip route add blackhole default table 19022 metric 4096 proto 219",
        ("installed", PROBLEM, "the ipv4 blackhole route of table 19022 is missing"),
    ),
    "the underlay too small": (
        "ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500",
        ("mtu", PROBLEM, "ebbgate0 has 1450, the underlay less the tunnel's headers 1350"),
    ),
    "the tunnel too small": (
        "ip link set ebbgate0 mtu 1300", "ip link set ebbgate0 mtu 1450",
        ("mtu", WARNING, "packets are smaller than need be"),
    ),
}  # fmt: skip
"""What breaks, what undoes it, and what must be found: check, severity, words."""


def _do(rig: rigs.Rig, node: str, command: str) -> None:
    program, _, arguments = command.partition(" ")
    words = [arguments] if program == "nft" else arguments.split()
    rig.lab.run(node, program, *words)


@pytest.mark.parametrize("trick", TRICKS)
def test_each_thing_that_is_broken_is_found_alone(rig: rigs.Rig, trick: str) -> None:
    broken, undone, (check, severity, words) = TRICKS[trick]
    _do(rig, "node2", broken)
    try:
        found = examine(rig, "node2")
    finally:
        _do(rig, "node2", undone)
    assert trouble(found) == [(check, severity)], found
    assert any(words in each.seen and each.advice for each in found if each.check == check), found


def test_the_advice_for_a_closed_firewall_opens_it(rig: rigs.Rig) -> None:
    rig.lab.run("node2", "iptables", "-P", "FORWARD", "DROP")
    try:
        [found] = [each for each in examine(rig, "node2") if each.check == "forward"]
        for command in found.advice.split(" && "):
            rig.lab.run("node2", *command.split())
        assert trouble(examine(rig, "node2")) == []
    finally:
        rig.lab.run("node2", "iptables", "-F", "FORWARD")
        rig.lab.run("node2", "iptables", "-P", "FORWARD", "ACCEPT")


async def test_a_peer_whose_port_is_closed_is_found_until_its_programmer_runs(rig: rigs.Rig) -> None:
    rig.lab.run("node2", "ip", "link", "set", "ebbgate0", "down")
    found = examine(rig, "node1")
    assert trouble(found) == [("peers", PROBLEM)]
    assert any("10.168.60.12 answers, but nothing listens on UDP 19021" in each.seen for each in found)
    found = examine(rig, "node2")
    assert trouble(found) == [("installed", PROBLEM)]
    assert any(each.seen == "ebbgate0 is down" for each in found)
    rig.start("node2")
    await rigs.until(lambda: trouble(examine(rig, "node2")) == [], "the programmer has put it back")
    rig.kill("node2", signal.SIGTERM)


def test_a_peer_that_no_route_leads_to_is_found(rig: rigs.Rig) -> None:
    rig.lab.run("node1", "ip", "route", "add", "unreachable", "10.168.60.12/32")
    try:
        found = examine(rig, "node1")
    finally:
        rig.lab.run("node1", "ip", "route", "del", "unreachable", "10.168.60.12/32")
    assert trouble(found) == [("peers", PROBLEM)]
    assert any("10.168.60.12 can't be reached" in each.seen for each in found)


def test_a_bus_that_does_not_answer_is_found(rig: rigs.Rig) -> None:
    command = [*rig.programmer("node1", "doctor"), "--nats", "nats://10.168.60.11:9", "-o", "json"]
    found = msgspec.json.decode(rig.lab.run("node1", *command, check=False), type=list[Finding])
    assert trouble(found) == [("bus", PROBLEM)]


def test_a_node_without_anything_of_ours_says_so_and_for_people_too(rig: rigs.Rig) -> None:
    bare = examine(rig, "control")
    assert ("installed", WARNING) in trouble(bare)
    assert any(each.seen.startswith("2 asked on UDP 19021") for each in bare), "those that the plan names"
    command = rig.programmer("node2", "doctor")
    assert "ok        installed    device, programs" in rig.lab.run("node2", *command)
    rig.lab.run("node2", "sysctl", "-qw", "net.ipv4.ip_forward=0")
    try:
        told = rig.lab.run("node2", *command, check=False)
        assert "PROBLEM   forwarding   net.ipv4.ip_forward is off: this node forwards no ipv4" in told
        assert "→ sysctl -w net.ipv4.ip_forward=1" in told
        with pytest.raises(RuntimeError):
            rig.lab.run("node2", *command)
    finally:
        rig.lab.run("node2", "sysctl", "-qw", "net.ipv4.ip_forward=1")
