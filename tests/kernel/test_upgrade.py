"""Another object, another layout of maps: exchanged under running traffic, there and back."""

import json
import pathlib
import subprocess

from ebbgate_programmer.core import layout
from tests.kernel import rig as rigs

EGRESS_IP = "10.168.60.100"


async def test_a_new_object_replaces_the_programs_without_a_break(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        talking = rig.converse("mediabot")
        await rigs.until(lambda: rig.said("mediabot"), "answers")
        before = _pinned(rig, "node1")
        rig.kill("node1")
        rig.object = _other_object(rig.home)
        rig.start("node1")
        # Not by looking at the pins: each is away for a moment while it is exchanged.
        await rigs.until(lambda: rig.log("node1").count("AttachPrograms") == 2, "new programs")
        count = len(rig.said("mediabot"))
        await rigs.until(lambda: len(rig.said("mediabot")) > count + 5, "answers go on")
        after = _pinned(rig, "node1")
        assert talking.poll() is None
        assert set(rig.said("mediabot")) == {EGRESS_IP}
        assert all(after[name] != before[name] for name in ("classify", "encap", "decap"))
        assert after["encap_link"] == before["encap_link"]
        assert after["route"] == before["route"]


async def test_another_layout_is_built_beside_takes_over_and_gives_way_again(rig: rigs.Rig) -> None:
    """Upgrade and downgrade: a connection that goes on all the time tells whether anything was disturbed."""
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        talking, others = rig.converse("mediabot"), rig.converse("xwing")
        await rigs.until(lambda: rig.said("mediabot") and rig.said("xwing"), "answers")
        for number in (layout.LAYOUT + 1, layout.LAYOUT):
            for node in rigs.NODES:
                await _restart_with(rig, node, number)
        count = len(rig.said("mediabot"))
        await rigs.until(lambda: len(rig.said("mediabot")) > count + 5, "answers go on")
        assert (talking.poll(), others.poll()) == (None, None)
        assert set(rig.said("mediabot")) == {EGRESS_IP}
        assert rig.lab.leaks() == 0
        assert _retransmissions(rig) == 0, "a packet was lost on the way"


async def _restart_with(rig: rigs.Rig, node: str, number: int) -> None:
    ready = rig.log(node).count("programmer.ready")
    rig.kill(node)
    rig.start(node, layout=number)
    await rigs.until(lambda: rig.log(node).count("programmer.ready") > ready, f"{node} is ready")
    assert [each.name for each in rig.pins(node).iterdir()] == [f"v{number}"], rig.log(node)[-2000:]


def _retransmissions(rig: rigs.Rig) -> int:
    text = rig.lab.run("mediabot", "cat", "/proc/net/snmp")
    head, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
    return int(values[head.index("RetransSegs")])


async def test_maps_that_are_not_ours_are_left_alone_and_said(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        rig.kill("node1")
        route = rig.pins("node1") / f"v{layout.LAYOUT}" / "route"
        route.unlink()
        form = "type hash key 4 value 4 entries 1 name route"
        rig.lab.run("node1", "bpftool", "map", "create", str(route), *form.split())
        rig.start("node1")
        await rigs.until(lambda: "maps of another form" in rig.log("node1"), "says so")
        assert rig.log("node1").count("maps of another form") == 1
        assert rig.curl("mediabot") == EGRESS_IP


def _other_object(home: pathlib.Path) -> pathlib.Path:
    """The same programs in a file of another hash: what follows the ELF's tables is nobody's."""
    copy = home / "other.bpf.o"
    copy.write_bytes(rigs.OBJECT.read_bytes() + b"\0")
    return copy


def _pinned(rig: rigs.Rig, node: str) -> dict[str, int]:
    """Ids of what is pinned, as bpftool sees them."""
    found = {}
    for kind, names in (
        ("prog", ("classify", "encap", "decap")),
        ("map", ("route",)),
        ("link", ("encap_link",)),
    ):
        for name in names:
            path = str(rig.pins(node) / f"v{layout.LAYOUT}" / name)
            shown = subprocess.run(
                ["bpftool", "-j", kind, "show", "pinned", path], capture_output=True, text=True, check=True
            )
            found[name] = json.loads(shown.stdout)["id"]
    return found
