"""`ebbgate top` and `ebbgate drops` at a real bus; the test tells what nodes would."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner, Result

from ebbgate_bus.contracts import codec, envelope, reports, subjects
from ebbgate_bus.contracts.reports import Dropped, PolicyTraffic, Stats
from ebbgate_bus.runtime import connection, publisher
from ebbgate_cli import __main__ as cli
from ebbgate_cli import top

DEADLINE_S = 15.0
SECOND = 1_000_000_000
EBBGATE = (sys.executable, "-m", "ebbgate_cli")


async def _ask(server: Any, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli.app, [*arguments, "--nats", server.url])


async def _tell(bus: connection.Bus, node: str, packets: int, second: int) -> None:
    traffic = PolicyTraffic(steered=reports.Traffic(packets, packets * 100), connections=packets)
    said = Stats(node=node, policies={"sample": traffic}, drops={"route": packets})
    send = publisher.Publisher(bus)
    await send.start()
    headers = {envelope.SEEN: str(second * SECOND)}
    await send.publish([envelope.Outgoing(subjects.stats(node), codec.encode(said), headers)])


def _begin(server: Any, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [*EBBGATE, *arguments, "--nats", server.url]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )


async def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.to_thread(process.stdout.readline)


async def _ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    return await asyncio.to_thread(process.communicate, timeout=DEADLINE_S)


async def test_top_without_any_report_says_so(server: Any, bus: connection.Bus) -> None:
    told = await _ask(server, "top", "--once", "--wait", "0")
    assert (told.exit_code, told.stdout) == (1, "")
    assert top.NOBODY in told.stderr


async def test_top_once_has_totals_and_with_two_reports_rates(server: Any, bus: connection.Bus) -> None:
    await _tell(bus, "node1", 100, second=10)
    totals = await _ask(server, "top", "--once", "--wait", "0", "--by", "policy")
    assert [line.split() for line in totals.stdout.splitlines()][1] == [
        "sample", "-", "-", "100", "10k", "-", "100", "-", "none",
    ]  # fmt: skip
    process = _begin(server, "top", "-o", "json")
    try:
        stored = json.loads(await _line(process))
        assert (stored["policies"][0]["per_second"], stored["nodes"][0]["total"]["packets"]) == (None, 100)
        await _tell(bus, "node1", 150, second=15)
        rates = json.loads(await _line(process))
        assert rates["policies"][0]["per_second"] == {
            "packets": 10,
            "bits": 8000,
            "connections": 10,
            "drops": {},
        }
        assert rates["nodes"][0]["per_second"]["drops"] == {"route": 10}
        await _tell(bus, "node1", 5, second=20)
        anew = json.loads(await _line(process))
        assert anew["policies"][0]["per_second"]["packets"] == 1
        process.send_signal(signal.SIGINT)
        assert await _ended(process) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()


async def test_top_once_waits_for_a_second_report(server: Any, bus: connection.Bus) -> None:
    """The command stands before the report comes: its reader is a consumer that the server knows."""
    await _tell(bus, "node1", 100, second=10)
    process = _begin(server, "top", "--once", "-o", "json")
    try:
        for second in range(11, 40):
            await _tell(bus, "node1", second * 10, second)
            if process.poll() is not None:
                break
            await asyncio.sleep(0.1)
        told, complaints = await _ended(process)
        assert complaints == ""
        assert json.loads(told)["policies"][0]["per_second"]["packets"] == 10
    finally:
        process.kill()


async def test_top_draws_in_place_on_a_terminal_and_ends_at_ctrl_c(server: Any, bus: connection.Bus) -> None:
    await _tell(bus, "node1", 100, second=10)
    told, process = await asyncio.to_thread(_on_terminal, server)
    assert "sample" in told
    assert "\x1b[?25h" in told, "the cursor is shown again"
    assert process.returncode == 0


def _on_terminal(server: Any) -> tuple[str, subprocess.Popen[bytes]]:
    """What is drawn on a pseudo-terminal until Ctrl-C, which is sent once the policy was drawn."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*EBBGATE, "top", "--nats", server.url], stdin=theirs, stdout=theirs, stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip
    os.close(theirs)
    told, end = b"", time.monotonic() + DEADLINE_S
    try:
        while b"sample" not in told:
            assert time.monotonic() < end
            told += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE_S)
        told += os.read(ours, 65536)
    finally:
        process.kill()
        os.close(ours)
    return told.decode(), process


DROP = Dropped(
    node="node1", reason="no_gateway", source="10.244.1.10", destination="192.0.2.1", protocol=6,
    source_port=4000, destination_port=443, pod="default/a", policy="sample",
)  # fmt: skip


async def _drop_until(bus: connection.Bus, ended: Callable[[], object], *drops: Dropped) -> None:
    """Nothing is kept for who comes late, so packets drop until there was enough of them."""
    async with asyncio.timeout(DEADLINE_S):
        while not ended():
            for each in drops:
                await bus.publish(subjects.dropped(each.node), codec.encode(each))
            await bus.flush()
            await asyncio.sleep(0.05)


async def test_drops_are_followed_chosen_and_counted(server: Any, bus: connection.Bus) -> None:
    other = Dropped(
        node="node2", reason="route", source="10.244.2.1", destination="192.0.2.2", pod="default/b"
    )
    asked = {
        ("--policy", "sample"): "10.244.1.10:4000 → 192.0.2.1:443/tcp",
        ("--pod", "b"): "10.244.2.1 → 192.0.2.2/protocol 0",
        ("--node", "node2"): "(route); ebbgate policies",
        ("--reason", "no_gateway"): "policy sample: the policy has no gateway for it (no_gateway)",
    }
    for arguments, text in asked.items():
        asking = asyncio.create_task(_ask(server, "drops", *arguments, "--count", "2"))
        await _drop_until(bus, asking.done, DROP, other)
        lines = asking.result().stdout.splitlines()
        assert (asking.result().exit_code, len(lines)) == (0, 2)
        assert all(text in line for line in lines)


async def test_drops_end_by_themselves_and_are_json_for_scripts(server: Any, bus: connection.Bus) -> None:
    nothing = await _ask(server, "drops", "--seconds", "0.2")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    asking = asyncio.create_task(_ask(server, "drops", "--count", "1", "-o", "json"))
    await _drop_until(bus, asking.done, DROP)
    told = json.loads(asking.result().stdout)
    assert (told["reason"], told["hint"], told["policy"]) == (
        "no_gateway",
        "ebbgate policies sample",
        "sample",
    )


async def test_an_unknown_reason_is_refused_with_those_that_are_known() -> None:
    told = await asyncio.to_thread(CliRunner().invoke, cli.app, ["drops", "--reason", "no_gatway"])
    assert told.exit_code == 2
    assert "no_gateway" in told.stderr
