"""One programmer at a time: a second one on a node, as of a second installation, waits and says so."""

import asyncio
import signal
import subprocess

from ebbgate_programmer.io import ownership
from tests.kernel import rig as rigs

EGRESS_IP = "10.168.60.100"


async def test_a_second_programmer_waits_until_the_first_is_gone(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        first = rig.programmers["node1"]
        command = (*rig.programmer("node1", "run"), "--health-port", "9999")
        rig.add(rig.start_in("node1", *command, log="second.log"))

        def asked() -> str:
            return rig.lab.run("node1", "curl", "-s", "http://127.0.0.1:9999/readyz", check=False)

        await rigs.until(lambda: ownership.TAKEN in asked(), "it says why it waits")
        assert "bus.connected" not in (rig.home / "second.log").read_text()
        first.send_signal(signal.SIGSTOP)  # it can't do anything, and is there
        rig.lab.run("node1", "ip", "link", "del", "ebbgate0")
        await rigs.until(lambda: ownership.TAKEN in asked(), "it still does")
        assert "ebbgate0" not in rig.lab.run("node1", "ip", "link")
        rig.kill("node1")
        await rigs.until(lambda: asked() == "ok\n", "it is at work")
        await rigs.until(lambda: rig.curl("mediabot", seconds=1) == EGRESS_IP, "all is put back")
        assert rig.lab.leaks() == 0


async def test_a_node_with_a_programmer_at_work_is_not_cleaned(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        argv = rig.lab.inside("node1", *rig.programmer("node1", "clean"))
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "a programmer is at work on this node, and would put all back" in done.stderr
        assert rig.curl("mediabot") == EGRESS_IP
