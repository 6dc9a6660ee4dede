"""Two real nodes, a pod, its gateway, nginx outside: the programmer's whole job on real parts."""

import asyncio
import signal
import struct
import subprocess

from ebbgate_bus.contracts import subjects
from ebbgate_lab import topology
from ebbgate_programmer.core import layout
from ebbgate_programmer.io import bpf
from tests.kernel import rig as rigs

EGRESS_IP, NODE_IP = "10.168.60.100", "10.168.60.11"


async def test_a_chosen_pod_leaves_with_the_egress_ip_and_the_other_with_its_nodes(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        assert rig.curl("mediabot") == NODE_IP
        revision = await rigs.bring_up(rig, bus, plan)
        said = await rigs.applied(bus, "node2", revision)
        assert said.slots == {"77": EGRESS_IP, "78": topology.twin(EGRESS_IP)}
        assert said.problems == ()
        for pod, seen in (("mediabot", EGRESS_IP), ("xwing", NODE_IP), ("gozanti", "10.168.60.12")):
            assert rig.curl(pod) == seen
            assert rig.curl(pod, site=rigs.SITE6) == topology.twin(seen)
        assert rig.lab.leaks() == 0


async def test_without_the_endpoint_the_pod_leaves_as_before(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        assert rig.curl("mediabot") == EGRESS_IP
        revision = await plan.publish(
            {subjects.node_scope("node1"): {}, subjects.ALL_SCOPE: rigs.shared_rows()}
        )
        await rigs.applied(bus, "node1", revision)
        assert rig.curl("mediabot") == NODE_IP


async def test_a_path_without_slot_drops(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        revision = await plan.publish({subjects.ALL_SCOPE: rigs.shared_rows(rigs.path_group(slot=0))})
        await rigs.applied(bus, "node1", revision)
        assert rig.curl("mediabot", seconds=1) == ""
        assert rig.curl("xwing") == NODE_IP


async def test_a_killed_programmer_leaves_traffic_alone_and_its_restart_writes_nothing(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        revision = await rigs.bring_up(rig, bus, plan)
        for node in ("node1", "node2"):
            rig.kill(node, signal.SIGKILL)
        assert rig.curl("mediabot") == EGRESS_IP
        await bus.flush()
        watchers = {node: _watch(rig, node) for node in ("node1", "node2")}
        ids = {node: _bpf_ids(rig, node) for node in watchers}
        logged = {node: rig.log(node).count("plan.applied") for node in watchers}
        said = {node: await rigs.applied(bus, node, revision) for node in watchers}
        for node in watchers:
            rig.start(node)
            await rigs.until(lambda n=node: rig.log(n).count("plan.applied") > logged[n], "restarted")  # type: ignore[misc]
        assert rig.curl("mediabot") == EGRESS_IP
        assert {node: _bpf_ids(rig, node) for node in watchers} == ids
        for node, monitors in watchers.items():
            assert _seen(monitors) == "", f"{node} wrote"
            assert await rigs.applied(bus, node, revision) == said[node]


def _watch(rig: rigs.Rig, node: str) -> list[subprocess.Popen[bytes]]:
    """The kernel's own witnesses: what they print was written."""
    commands = (("nft", "monitor"), ("ip", "monitor", "link", "address", "route", "rule"))
    return [
        subprocess.Popen(rig.lab.inside(node, *argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for argv in commands
    ]


def _seen(monitors: list[subprocess.Popen[bytes]]) -> str:
    texts = []
    for monitor in monitors:
        monitor.terminate()
        texts.append(monitor.communicate()[0].decode())
    return "".join(texts)


def _bpf_ids(rig: rigs.Rig, node: str) -> dict[str, int]:
    """Of all that is pinned: maps, programs and links. What is made anew has another."""
    found = {}
    for pinned in (rig.pins(node) / f"v{layout.LAYOUT}").iterdir():
        with bpf.opened(pinned) as descriptor:
            found[pinned.name] = int(struct.unpack("=II", bpf.info(descriptor, 8, pinned.name))[1])
    return found


async def test_what_others_take_away_is_put_back_and_never_leaks(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        revision = await rigs.bring_up(rig, bus, plan)
        for number, argv in enumerate(_DAMAGE, start=1):
            rig.lab.run("node1", *argv)
            assert rig.curl("mediabot", seconds=2) in (EGRESS_IP, ""), argv
            await _until_repaired(rig, bus, (revision, number))
            assert rig.curl("mediabot") == EGRESS_IP, argv
        assert rig.lab.leaks() == 0


_DAMAGE = (
    ("ip", "rule", "del", "priority", "1921"),
    ("ip", "rule", "del", "priority", "1922"),
    ("ip", "route", "flush", "table", "19021"),
    ("ip", "route", "flush", "table", "19022"),
    ("ip", "link", "del", "ebbgate0"),
    ("ip", "link", "set", "ebbgate0", "mtu", "1300"),
    ("nft", "flush", "chain", "ip", "ebbgate", "translate"),
    ("sysctl", "-qw", "net.ipv4.conf.ebbgate0.rp_filter=1"),
)


async def _until_repaired(rig: rigs.Rig, bus: object, wanted: tuple[int, int]) -> None:
    revision, number = wanted
    for _ in range(500):
        if (await rigs.applied(bus, "node1", revision)).drift_repairs >= number:  # type: ignore[arg-type]
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"drift {number} wasn't repaired: {rig.log('node1')[-2000:]}")


async def test_clean_leaves_the_node_as_it_was(rig: rigs.Rig) -> None:
    before = {node: _whole(rig, node) for node in ("node1", "node2")}
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        assert rig.curl("mediabot") == EGRESS_IP
        for node in before:
            assert _whole(rig, node) != before[node]
            rig.kill(node, signal.SIGTERM)
            assert rig.curl("mediabot") in (EGRESS_IP, NODE_IP)
            for _ in range(2):
                rig.clean(node)
            assert _whole(rig, node) == before[node]
            assert not rig.pins(node).exists()
    assert rig.curl("mediabot") == NODE_IP


def _whole(rig: rigs.Rig, node: str) -> str:
    """All of a node's network that we could have changed, in words; counters left out."""
    commands = (
        ("ip", "-o", "link"),
        ("ip", "-o", "addr"),
        ("ip", "rule"),
        ("ip", "-6", "rule"),
        ("ip", "route", "show", "table", "all"),
        ("nft", "list", "ruleset"),
        ("sysctl", "-a", "-r", r"net\.ipv[46]\.(conf|ip_forward)"),
    )
    return "\n".join(rig.lab.run(node, *argv) for argv in commands)
