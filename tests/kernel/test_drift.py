"""What others change or take away is found when the kernel tells, long before the next look at everything."""

import asyncio

import pytest

from ebbgate_bus.contracts import reports
from ebbgate_bus.runtime import connection
from tests.kernel import rig as rigs

EGRESS_IP = "10.168.60.100"
FAR_S = 600.0
"""Between two looks at everything: nothing is found by them here."""
SOON_S = 5.0

TOLD = {
    "a table": "nft delete table ip ebbgate",
    "a table of the guards": "nft delete table ip6 ebbgate_guard",
    "a chain": "nft flush chain ip ebbgate steer",
    "a rule of somebody else's in our chain": "nft add rule ip6 ebbgate steer accept",
    "an element": "nft delete element ip ebbgate covered '{ 10.244.1.10 }'",
    "an ip rule": "ip rule del priority 1921",
    "an IPv6 rule": "ip -6 rule del priority 1922",
    "a route": "ip route flush table 19021",
    "an IPv6 route": "ip -6 route flush table 19022",
    "the device": "ip link del ebbgate0",
    "the device's MTU": "ip link set ebbgate0 mtu 1300",
    "the device's address": "ip addr flush dev ebbgate0",
    "the device's state": "ip link set ebbgate0 down",
}


async def _said(bus: connection.Bus, revision: int) -> reports.Applied:
    return await rigs.applied(bus, "node1", revision)


@pytest.mark.timeout(300)
async def test_each_kind_is_repaired_soon_and_counted(rig: rigs.Rig) -> None:
    rig.resync_s = FAR_S
    async with rigs.connected(rig) as (bus, plan):
        revision = await rigs.bring_up(rig, bus, plan)
        for number, (what, damage) in enumerate(TOLD.items(), start=1):
            rig.lab.run("node1", "sh", "-c", damage)
            async with asyncio.timeout(SOON_S):
                while (said := await _said(bus, revision)).drift_repairs < number:
                    await asyncio.sleep(0.05)
            assert said.problems == (), what
            assert rig.curl("mediabot") == EGRESS_IP, what
            assert rig.curl("mediabot", site=rigs.SITE6), what
        assert rig.lab.leaks() == 0
