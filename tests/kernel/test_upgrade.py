"""Another object, another start: programs are exchanged under running traffic, maps and links stay."""

import json
import pathlib
import subprocess

from ebbgate_programmer.core import layout
from tests.kernel import rig as rigs

EGRESS_IP = "10.168.60.100"


async def test_a_new_object_replaces_the_programs_without_a_break(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        for node in ("node1", "node2"):
            rig.start(node)
        revision = await plan.scenario()
        for node in ("node1", "node2"):
            await rigs.applied(bus, node, revision)
        talking = rig.converse("mediabot")
        await rigs.until(lambda: rig.said("mediabot"), "answers")
        before = _pinned(rig, "node1")
        rig.kill("node1")
        rig.object = _other_object(rig.home)
        rig.start("node1")
        # Not by looking at the pins: each is away for a moment while it is exchanged.
        await rigs.until(lambda: rig.log("node1").count("SetPrograms") == 2, "new programs")
        count = len(rig.said("mediabot"))
        await rigs.until(lambda: len(rig.said("mediabot")) > count + 5, "answers go on")
        after = _pinned(rig, "node1")
        assert talking.poll() is None
        assert set(rig.said("mediabot")) == {EGRESS_IP}
        assert all(after[name] != before[name] for name in ("classify", "encap", "decap"))
        assert after["encap_link"] == before["encap_link"]
        assert after["route"] == before["route"]


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
