"""The programmer in the narrowest container that it is meant for: two capabilities, the seccomp profile of
deploy/, nothing writable but /proc and the bpf filesystem.
"""

import asyncio
import json
import pathlib
import subprocess
import sys

import pytest

from ebbgate_lab import receiver
from ebbgate_programmer.core import places
from tests.kernel import rig as rigs

EGRESS_IP = "10.168.60.100"
NODES = ("node1", "node2")
CONTROL, HEALTH_PORT = "10.168.60.10", 9882
PROFILE = rigs.ROOT / "deploy/seccomp-programmer.json"
CONFINED = (sys.executable, str(rigs.ROOT / "tests/kernel/confined.py"), str(PROFILE), "net_admin,bpf")


@pytest.mark.parametrize("way", [places.TCX, places.CLSACT])
async def test_it_brings_up_repairs_and_cleans_under_all_of_it(
    rig: rigs.Rig, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("EBBGATE_ATTACH", way)
    monkeypatch.setenv("EBBGATE_HEALTH_PORT", "19022")
    async with rigs.connected(rig) as (bus, plan):
        for node in NODES:
            rig.start(node, under=CONFINED)
        revision = await plan.scenario()
        for node in NODES:
            assert (await rigs.applied(bus, node, revision)).problems == ()
            assert "Seccomp:\t2" in _status(rig.programmers[node].pid)
        assert rig.curl("mediabot") == EGRESS_IP
        rig.lab.run("node1", "nft", "delete", "table", "ip", places.NFT_TABLE)
        rig.lab.run("node1", "ip", "link", "del", places.DEVICE)
        async with asyncio.timeout(rigs.DEADLINE_S):
            while (await rigs.applied(bus, "node1", revision)).drift_repairs == 0:
                await asyncio.sleep(0.02)
        await rigs.until(lambda: rig.curl("mediabot", seconds=1) == EGRESS_IP, "repaired")
        assert rig.lab.leaks() == 0
        rig.kill("node1")
        examined = rig.lab.run(
            "node1", *CONFINED, *rig.programmer("node1", "doctor"), "-o", "json", check=False
        )
        assert {each["severity"] for each in json.loads(examined) if each["check"] == "reading"} == {"ok"}
        rig.lab.run("node1", *CONFINED, *rig.programmer("node1", "clean"))
        assert places.DEVICE not in rig.lab.run("node1", "ip", "link")
        assert not rig.pins("node1").exists()


async def test_it_tells_of_itself_under_all_of_it(rig: rigs.Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health, metrics and spans: what opens ports, starts threads and reads /proc."""
    monkeypatch.setenv("EBBGATE_HEALTH_PORT", str(HEALTH_PORT))
    async with rigs.connected(rig) as (bus, plan):
        with rig.lab.entered("control"):
            taking = receiver.Receiver(CONTROL)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taking.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        for node in NODES:
            rig.start(node, under=CONFINED)
        revision = await plan.scenario()
        for node in NODES:
            assert (await rigs.applied(bus, node, revision)).problems == ()
        metrics = rig.lab.run("node1", "curl", "-s", f"http://127.0.0.1:{HEALTH_PORT}/metrics")
        assert 'ebbgate_programmer_ready{node="node1"} 1.0' in metrics
        assert "process_resident_memory_bytes" in metrics
        async with asyncio.timeout(rigs.DEADLINE_S):
            while not {"bpf", "nft", "netlink"} <= {span.name for span in taking.spans}:
                await asyncio.sleep(0.05)
        taking.stop()


def _status(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/status").read_text()


@pytest.mark.usefixtures("_machine")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("libc.getpid()", ""),
        # Without the profile anybody may do these three.
        ("libc.unshare(0x10000000)", "Operation not permitted"),
        ("libc.ptrace(0, 0, 0, 0)", "Operation not permitted"),
        ("libc.socket(38, 5, 0)", "Operation not permitted"),
        ("libc.creat(b'/tmp/ebbgate', 0)", "Operation not permitted"),
        ("libc.open(b'/tmp/ebbgate', 65)", "Read-only file system"),
        ("libc.mkdir(b'/sys/fs/bpf', 0)", "File exists"),
    ],
)
def test_what_it_has_no_need_of_is_refused(call: str, said: str) -> None:
    code = f"import ctypes, os; libc = ctypes.CDLL(None, use_errno=True); failed = {call} < 0\n"
    code += "print(os.strerror(ctypes.get_errno()) if failed else '', end='')"
    argv = [*CONFINED, sys.executable, "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == said
