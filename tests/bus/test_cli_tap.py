"""`ebbgate tap` and the example of docs/ on a real bus: what was said lately, and what is said now."""

import asyncio
import json
import pathlib
import sys
from typing import Any

from typer.testing import CliRunner, Result

from ebbgate_bus.contracts import codec, envelope, facts, reports, rows, streams, subjects, trace
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import connection, jetstream, publisher, tracing
from ebbgate_cli import __main__ as cli

EXAMPLE = pathlib.Path(__file__).parents[2] / "docs/examples/listen.py"
POD = facts.Pod(namespace="default", name="a", uid="1", node="node1", ips=("10.244.1.10",))
ROW = rows.Endpoint(ip="10.244.1.10", set="00ff", bucket=7, pod="default/a")
VERDICT = reports.Verdict(policy="p", uid="2")
ROW_SUBJECT = subjects.endpoint("node1", "10.244.1.10")


async def say(send: publisher.Publisher, subject: str, message: Message | facts.Gone, trace: Any) -> None:
    headers = trace if not isinstance(message, facts.Gone) else trace | {envelope.TTL: streams.TOMBSTONE_TTL}
    await send.publish([Outgoing(subject, codec.encode(message), headers)])


async def until_kept(bus: connection.Bus, count: int) -> None:
    """JOURNAL takes from each stream by itself: what comes next to another may be there before this is."""
    async with asyncio.timeout(10):
        while (await jetstream.request(bus, "STREAM.INFO.JOURNAL", {}))["state"]["messages"] < count:
            await asyncio.sleep(0.01)


async def tap(server: Any, *arguments: str) -> Result:
    command = ["tap", *arguments, "--nats", server.url]
    return await asyncio.to_thread(CliRunner().invoke, cli.app, command)


async def test_what_was_said_lately_is_told_with_what_changed_and_why(
    server: Any, bus: connection.Bus
) -> None:
    send = publisher.Publisher(bus)
    await send.start()
    began = tracing.headers()
    said = (
        (subjects.fact("pod", "default", "a"), POD, began),
        (ROW_SUBJECT, ROW, trace.headers(tracing.child(trace.of(began)))),
        (subjects.verdict("p"), VERDICT, tracing.headers()),
        (ROW_SUBJECT, facts.GONE, tracing.headers()),
    )
    for number, each in enumerate(said, start=1):
        await say(send, *each)
        await until_kept(bus, number)
    found = await tap(server, "--since", "1m", "--count", "4", "-o", "json")
    assert found.exit_code == 0, found.output
    messages = [json.loads(line) for line in found.output.splitlines()]
    assert [each["subject"] for each in messages] == [
        subjects.fact("pod", "default", "a"),
        ROW_SUBJECT,
        subjects.verdict("p"),
        ROW_SUBJECT,
    ]
    assert messages[1]["cause"] == subjects.fact("pod", "default", "a")
    assert messages[3]["payload"] is None
    assert [each["sequence"] for each in messages] == [1, 1, 1, 2]  # of each stream its own
    rows_only = await tap(server, "--since", "1m", "--count", "2", "-n", "default", "--kind", "plan")
    assert [line.split()[1:3] for line in rows_only.output.splitlines()] == [
        ["plan.endpoint", "node1/10.244.1.10"]
    ] * 2
    nothing = await tap(server, "--since", "soon")
    assert nothing.exit_code == 2
    assert "write 90s, 10m or 1h" in nothing.output


async def test_pods_of_a_policy_are_found_by_their_sets_though_those_are_old(
    server: Any, bus: connection.Bus
) -> None:
    send = publisher.Publisher(bus)
    await send.start()
    await say(send, subjects.routes("00ff", 0), rows.Routes(policies=("p",)), tracing.headers())
    await until_kept(bus, 1)
    await bus.jetstream().purge_stream("JOURNAL")
    await say(send, ROW_SUBJECT, ROW, tracing.headers())
    await until_kept(bus, 1)
    found = await tap(server, "--since", "1m", "--policy", "p", "--count", "1")
    assert found.output.split()[1] == "plan.endpoint"


async def test_the_example_of_the_docs_tells_what_is_and_what_comes(server: Any, bus: connection.Bus) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 30
    send = publisher.Publisher(bus)
    await send.start()
    await say(send, ROW_SUBJECT, ROW, tracing.headers())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE)),
        stdout=asyncio.subprocess.PIPE,
        env={"EBBGATE_NATS_URL": server.url},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b"10.244.1.10 default/a\n"
            await say(send, ROW_SUBJECT, facts.GONE, tracing.headers())
            assert await process.stdout.readline() == b"10.244.1.10 gone\n"
    finally:
        process.kill()
        await process.wait()
