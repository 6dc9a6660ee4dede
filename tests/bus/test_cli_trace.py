"""`ebbgate trace` on a real bus: what JOURNAL has of it, and what is left without."""

import asyncio
import json
import time
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ebbgate_bus.contracts import codec, envelope, facts, reports, rows, streams, subjects, trace
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, jetstream, publisher, revision, tracing
from ebbgate_cli import __main__ as cli

FACT = subjects.fact("policy", "p")


async def told(server: Any, *arguments: str) -> Result:
    command = ["trace", *arguments, "--nats", server.url]
    return await asyncio.to_thread(CliRunner().invoke, cli.app, command)


class Walk:
    """One event and what follows from it, published as the services do: alone, as a batch, and plainly."""

    def __init__(self, bus: connection.Bus) -> None:
        self._bus = bus
        self._send = publisher.Publisher(bus)
        self._fences = {subjects.FACT_WRITER: 0, subjects.WRITER: 0}

    async def start(self) -> None:
        await self._send.start()
        for writer in self._fences:
            batch = [Outgoing(writer, codec.encode(rows.Writer(epoch=1, revision=1)))]
            self._fences[writer] = await revision.publish(self._bus, batch, expected_sequence=0)

    async def happen(self, number: int, generation: int) -> trace.Context:
        event = tracing.root()
        policy = codec.encode(facts.Policy(name="p", uid="p1", generation=generation))
        seen = {envelope.SEEN: str(time.time_ns())}
        await revision.publish_alone(
            self._bus,
            Outgoing(FACT, policy, seen | trace.headers(event)),
            writer=subjects.FACT_WRITER,
            expected_sequence=self._fences[subjects.FACT_WRITER],
        )
        plan = await self._plan(event, number)
        applied = reports.Applied(node="n1", all_revision=number)
        headers = trace.headers(tracing.child(plan), _work(plan, bpf=number))
        await self._send.publish([Outgoing(subjects.status("n1"), codec.encode(applied), headers)])
        return event

    async def _plan(self, event: trace.Context, number: int) -> trace.Context:
        plan = tracing.child(event)
        headers = trace.headers(plan, _work(event, fold=1, resolve=2))
        commit = rows.Commit(epoch=1, revision=number, count=0, digest="0")
        writer = codec.encode(rows.Writer(epoch=1, revision=number))
        batch = [Outgoing(subjects.commit(subjects.ALL_SCOPE), codec.encode(commit), headers)]
        batch.append(Outgoing(subjects.WRITER, writer, headers))
        fence = self._fences[subjects.WRITER]
        self._fences[subjects.WRITER] = await revision.publish(self._bus, batch, expected_sequence=fence)
        return plan


def _work(parent: trace.Context, **took_ms: float) -> trace.Work:
    return trace.Work(parent.span, time.time_ns(), took_ms)


@pytest.fixture
async def walk(bus: connection.Bus) -> Walk:
    walk = Walk(bus)
    await walk.start()
    return walk


async def test_a_trace_is_whole_though_the_next_one_has_replaced_its_messages(
    server: Any, walk: Walk
) -> None:
    """The policy's last change is followed by one of something else, of which the same node reports."""
    event = await walk.happen(7, 1)
    await walk._plan(tracing.root(), 8)
    found = json.loads((await told(server, "p", "-o", "json")).output)
    assert (found["trace"], found["about"]) == (event.trace, "policy p")
    (resolver,) = found["root"]["steps"]
    assert (resolver["who"], resolver["says"]) == ("resolver", ["revision 7 for all"])
    (node,) = resolver["steps"]
    assert (node["who"], node["stages"]) == ("n1", {"bpf": 7})
    assert found["kernel_ns"] > 0


async def test_without_an_argument_it_is_what_happened_last(server: Any, walk: Walk) -> None:
    await walk.happen(7, 1)
    last = await walk.happen(8, 2)
    output = (await told(server)).output
    assert last.trace in output
    assert "revision 8 for all" in output
    assert "revision 7" not in output


async def test_without_a_journal_the_last_messages_tell(server: Any, bus: connection.Bus, walk: Walk) -> None:
    await walk.happen(7, 1)
    await jetstream.request(bus, f"STREAM.DELETE.{streams.JOURNAL.name}", {})
    output = (await told(server, "p")).output
    assert "revision 7 for all" in output
    assert "revisions 7/0 in the kernel" in output


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("q", "nothing is known of q"),
        ("default/p", "nothing is known of default/p"),
        ("no name", "not a name"),
    ],
)
async def test_what_nobody_knows_is_said(server: Any, walk: Walk, what: str, said: str) -> None:
    await walk.happen(7, 1)
    found = await told(server, what)
    assert found.exit_code != 0
    assert said in found.output


async def test_on_an_empty_bus_nothing_has_happened(server: Any, bus: connection.Bus) -> None:
    found = await told(server)
    assert (found.exit_code, found.output) == (1, "nothing has happened lately\n")
