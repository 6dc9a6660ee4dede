"""The resolver's spans, through a real collector: what it goes on with, what it links to, what it leaves."""

import asyncio
import pathlib
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ebbgate_bus.contracts import codec, facts, rows, subjects, trace
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import connection, publisher, revision
from ebbgate_lab import observer, processes, receiver

AGENT = pathlib.Path(sys.prefix) / f"lib/python3.{sys.version_info.minor}/site-packages/rotel/rotel-agent"
WITHIN_S = 20


@pytest.fixture
def taking() -> Iterator[receiver.Receiver]:
    taking = receiver.Receiver("127.0.0.1")
    yield taking
    taking.stop()


@pytest.fixture
def collector(taking: receiver.Receiver, tmp_path: pathlib.Path) -> Iterator[str]:
    """A real collector, which passes on what it takes; its endpoint."""
    http, grpc = _free_port(), _free_port()
    command = [str(AGENT), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--batch-timeout", "50ms"]
    command += ["--exporter", "otlp", "--otlp-exporter-protocol", "http"]
    command += ["--otlp-exporter-endpoint", taking.endpoint]
    process = processes.Process("rotel", command, log=tmp_path / "rotel.log")
    process.start()
    processes.until_listening("127.0.0.1", http)
    yield f"http://127.0.0.1:{http}"
    process.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def resolver(server: Any, collector: str, tmp_path: pathlib.Path) -> Iterator[processes.Process]:
    command = processes.module("ebbgate_resolver", "--nats", server.url, "--name", "r1")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    process = processes.Process("r1", command, log=tmp_path / "r1.log", env=environment)
    yield process
    process.stop()


def pod(number: int) -> facts.Pod:
    return facts.Pod(namespace="default", name=f"p{number}", uid=f"u{number}", ips=(f"10.0.0.{number}",))


async def publish(bus: connection.Bus, messages: dict[str, Message]) -> None:
    sending = publisher.Publisher(bus)
    await sending.start()
    await sending.publish([Outgoing(subject, codec.encode(each)) for subject, each in messages.items()])


async def happen(bus: connection.Bus, number: int, *events: tuple[Message, str, trace.Context]) -> None:
    """All at once: what is in one batch comes together. `number`: of the batch."""
    messages = [Outgoing(subject, codec.encode(each), trace.headers(of)) for each, subject, of in events]
    fence = Outgoing(subjects.FACT_WRITER, codec.encode(rows.Writer(epoch=1, revision=number)))
    info = await bus.jetstream().stream_info("FACT", subjects_filter=subjects.FACT_WRITER)
    last = info.state.last_seq if info.state.subjects else 0
    await revision.publish(bus, [*messages, fence], expected_sequence=last)


def context(letter: str, *, sampled: bool) -> trace.Context:
    return trace.Context(letter * 32, letter * 16, sampled)


async def test_a_turn_goes_on_with_one_event_and_links_to_the_other(
    bus: connection.Bus, resolver: processes.Process, taking: receiver.Receiver
) -> None:
    synced = {subjects.synced(kind): facts.Synced(kind=kind) for kind in facts.KINDS}
    await publish(bus, {**synced, subjects.fact("node", "n0"): facts.Node(name="n0")})
    watching = observer.Observer(bus)
    watching.start()
    resolver.start()
    await watching.until(
        lambda seen: seen.get(subjects.commit(subjects.node_scope("n0")), rows.Commit) is not None,
        what="the first plan",
    )
    node = facts.Node(name="n1", internal_ips=("10.1.0.1",), addresses=("10.1.0.1",))
    mine, other, silent = (context(letter, sampled=letter != "c") for letter in "abc")
    await happen(
        bus,
        2,
        (pod(1), subjects.fact("pod", "default", "p1"), other),
        (node, subjects.fact("node", "n1"), mine),
        (pod(2), subjects.fact("pod", "default", "p2"), silent),
    )
    await watching.until(
        lambda seen: seen.get(subjects.commit(subjects.node_scope("n1")), rows.Commit) is not None,
        what="the plan of the new node",
    )
    watching.stop()
    async with asyncio.timeout(WITHIN_S):
        while "send ebbgate.v1.plan" not in {span.name for span in taking.of(mine.trace)}:
            await asyncio.sleep(0.05)
    spans = {span.name: span for span in taking.of(mine.trace)}
    turn = spans["process ebbgate.v1.fact.node"]
    assert (turn.service, turn.instance, turn.kind) == ("ebbgate-resolver", "r1", "consumer")
    assert (turn.parent, set(turn.links)) == (mine.span, {other.trace, silent.trace})
    assert turn.attributes["messaging.batch.message_count"] == 3
    assert spans["send ebbgate.v1.plan"].parent == turn.span
    assert {"fold", "resolve"} <= spans.keys()
    assert taking.of(silent.trace) == []
