"""A programmer with CAP_BPF and CAP_NET_ADMIN, nothing else, and no way to gain more, does its whole job."""

import pathlib

from tests.kernel import rig as rigs

EGRESS_IP, NODE_IP = "10.168.60.100", "10.168.60.11"
ALLOWED = ("net_admin", "bpf")
BITS = {12, 39}
_ONLY = ",".join(("-all", *(f"+{name}" for name in ALLOWED)))
FEW = ("setpriv", "--no-new-privs", f"--inh-caps={_ONLY}", f"--bounding-set={_ONLY}")


async def test_two_capabilities_are_enough_to_bring_up_change_and_repair(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node, under=FEW)
        revision = await plan.scenario()
        for node in rigs.NODES:
            assert (await rigs.applied(bus, node, revision)).problems == ()
            assert _capabilities(rig.programmers[node].pid) == BITS
        assert rig.curl("mediabot") == EGRESS_IP
        rig.lab.run("node1", "nft", "delete", "table", "ip", "ebbgate")
        rig.lab.run("node1", "sysctl", "-qw", "net.ipv4.conf.ebbgate0.rp_filter=1")
        rig.lab.run("node1", "ip", "link", "del", "ebbgate0")
        await rigs.until(lambda: rig.curl("mediabot", seconds=1) == EGRESS_IP, "what was damaged is repaired")
        assert rig.lab.leaks() == 0


def _capabilities(pid: int) -> set[int]:
    """Numbers of those that are effective, of the process that the command became."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    held = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))
    return {bit for bit in range(64) if held >> bit & 1}


async def test_one_capability_is_too_few_and_it_is_said_which(rig: rigs.Rig) -> None:
    for lacking in ALLOWED:
        rest = ",".join(("-all", *(f"+{name}" for name in ALLOWED if name != lacking)))
        rig.start("node1", under=("setpriv", f"--inh-caps={rest}", f"--bounding-set={rest}"))
        process = rig.programmers.pop("node1")
        assert process.wait(rigs.DEADLINE_S) == 1
        assert f"capability CAP_{lacking.upper()}" in rig.log("node1")
