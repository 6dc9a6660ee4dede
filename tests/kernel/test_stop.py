"""Stopping in the middle of a pass: the programmer ends, soon, whatever it was doing."""

import asyncio
import signal

from tests.kernel import rig as rigs

EGRESS_IP = "10.168.60.100"
TIMES = 8


async def test_a_programmer_stops_soon_also_in_the_middle_of_its_work(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        for number in range(TIMES):
            # Something to do for it, and a moment later it is told to stop: each time at another place.
            rig.lab.run("node1", "ip", "link", "del", "ebbgate0", check=False)
            await asyncio.sleep(0.03 * number)
            process = rig.programmers["node1"]
            rig.kill("node1", signal.SIGTERM)
            assert process.returncode in (0, -signal.SIGTERM, 143), rig.log("node1")[-500:]
            rig.start("node1")
        await rigs.until(lambda: rig.curl("mediabot", seconds=1) == EGRESS_IP, "all is put back")
        assert rig.lab.leaks() == 0
