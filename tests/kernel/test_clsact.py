"""Programs attached by filters under clsact, as on kernels without tcx: the same traffic, repair and clean.

That it is also tried where there really is no tcx is the business of `make soak-kernel`.
"""

import asyncio
import signal

import pytest

from ebbgate_lab import topology
from ebbgate_programmer.core import layout, places
from tests.kernel import rig as rigs

EGRESS_IP, NODE_IP = "10.168.60.100", "10.168.60.11"
NODES = ("node1", "node2")
_OURS = f"pref {places.FILTER_PRIORITY}"
_OF_OTHERS = "pref 7 handle 7 bpf da object-pinned {pins}/guard"
_DAMAGES = {
    "encap": ("node1", f"tc filter del dev {places.DEVICE} egress {_OURS}"),
    "decap": ("node2", f"tc filter del dev {places.DEVICE} ingress {_OURS}"),
    "guard": ("node2", f"tc filter del dev eth0 egress {_OURS}"),
    "take": ("node2", f"tc filter del dev eth0 ingress {_OURS}"),
    "qdisc": ("node1", f"tc qdisc del dev {places.DEVICE} clsact"),
    "qdisc of the uplink": ("node1", "tc qdisc del dev eth0 clsact"),
    "pins": ("node1", "rm {pins}/*"),
}


@pytest.fixture(autouse=True)
def _by_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EBBGATE_ATTACH", places.CLSACT)


async def _bring_up(rig: rigs.Rig, bus: object, plan: rigs.Plan) -> int:
    for node in NODES:
        rig.start(node)
    revision = await plan.scenario()
    for node in NODES:
        assert (await rigs.applied(bus, node, revision)).problems == ()  # type: ignore[arg-type]
    return revision


def _filters(rig: rigs.Rig, node: str) -> list[str]:
    """Where filters of ours are, in tc's words."""
    places_ = ((places.DEVICE, "egress"), (places.DEVICE, "ingress"), ("eth0", "egress"), ("eth0", "ingress"))
    return [
        f"{device} {side}"
        for device, side in places_
        if _OURS in rig.lab.run(node, "tc", "filter", "show", "dev", device, side, check=False)
    ]


ALL = [f"{places.DEVICE} egress", f"{places.DEVICE} ingress", "eth0 egress", "eth0 ingress"]


async def test_traffic_goes_as_with_tcx_and_a_restart_finds_the_filters(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await _bring_up(rig, bus, plan)
        for pod, seen in (("mediabot", EGRESS_IP), ("xwing", NODE_IP), ("gozanti", "10.168.60.12")):
            assert rig.curl(pod) == seen
            assert rig.curl(pod, site=rigs.SITE6) == topology.twin(seen)
        assert [_filters(rig, node) for node in NODES] == [ALL, ALL]
        assert not list((rig.pins("node1") / f"v{layout.LAYOUT}").glob("*_link"))
        rig.kill("node1")
        logged = rig.log("node1").count("plan.applied")
        rig.start("node1")
        await rigs.until(lambda: rig.log("node1").count("plan.applied") > logged, "restarted")
        assert '"changes": 0' in rig.log("node1").splitlines()[-1]
        assert rig.lab.leaks() == 0


@pytest.mark.timeout(300 * rigs.PATIENCE)
async def test_filters_that_others_remove_come_back_and_nothing_leaks(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        revision = await _bring_up(rig, bus, plan)
        for number, (what, (node, damage)) in enumerate(_DAMAGES.items(), start=1):
            pins = rig.pins(node) / f"v{layout.LAYOUT}"
            before = (await rigs.applied(bus, node, revision)).drift_repairs
            rig.lab.run(node, "sh", "-c", damage.replace("{pins}", str(pins)))
            assert rig.curl("mediabot", seconds=1) in (EGRESS_IP, ""), what
            async with asyncio.timeout(rigs.DEADLINE_S):
                while (await rigs.applied(bus, node, revision)).drift_repairs == before:
                    await asyncio.sleep(0.02)
            await rigs.until(lambda: rig.curl("mediabot", seconds=1) == EGRESS_IP, what)
            assert _filters(rig, node) == ALL, f"{number}: {what}"
        assert rig.lab.leaks() == 0


async def test_clean_takes_our_filters_and_leaves_those_of_others(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await _bring_up(rig, bus, plan)
        pins = rig.pins("node1") / f"v{layout.LAYOUT}"
        rig.lab.run("node1", "sh", "-c", f"tc filter add dev eth0 egress {_OF_OTHERS}".format(pins=pins))
        rig.kill("node1", signal.SIGTERM)
        rig.clean("node1")
        shown = rig.lab.run("node1", "tc", "filter", "show", "dev", "eth0", "egress")
        assert "pref 7" in shown
        assert _OURS not in shown
        assert not rig.pins("node1").exists()
        assert rig.lab.run("node1", "tc", "filter", "show", "dev", "eth0", "ingress") == ""


async def test_another_layout_takes_over_without_a_lost_packet(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await _bring_up(rig, bus, plan)
        talking = rig.converse("mediabot")
        await rigs.until(lambda: rig.said("mediabot"), "answers")
        for number in (layout.LAYOUT + 1, layout.LAYOUT):
            for node in NODES:
                ready = rig.log(node).count("programmer.ready")
                rig.kill(node)
                rig.start(node, layout=number)
                await rigs.until(lambda n=node, r=ready: rig.log(n).count("programmer.ready") > r, "ready")  # type: ignore[misc]
                assert [each.name for each in rig.pins(node).iterdir()] == [f"v{number}"]
                assert _filters(rig, node) == ALL
        count = len(rig.said("mediabot"))
        await rigs.until(lambda: len(rig.said("mediabot")) > count + 5, "answers go on")
        assert talking.poll() is None
        assert set(rig.said("mediabot")) == {EGRESS_IP}
        retransmitted = rig.lab.run("mediabot", "nstat", "-asz", "TcpRetransSegs").split()
        assert float(retransmitted[retransmitted.index("TcpRetransSegs") + 1]) == 0
