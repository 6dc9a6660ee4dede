"""Traces as the watcher begins them, from a directory of manifests: sampled or not, and how many."""

import asyncio
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from ebbgate_bus.contracts import facts, streams, subjects, trace
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import connection, follower
from ebbgate_lab import processes, receiver
from ebbgate_watcher.io.spans import SAMPLED_MAX

WITHIN_S = 20.0
MANY = 100
"""Pods that come at once: more than the traces of one batch that are recorded."""

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p%d, namespace: shop, uid: u-%d}\nspec: {nodeName: n}\n---\n"
)


class Watching:
    def __init__(self, url: str, bus: connection.Bus, folder: pathlib.Path) -> None:
        self.taking = receiver.Receiver("127.0.0.1")
        self._bus = bus
        self._url = url
        self._manifests = folder / "manifests"
        self._manifests.mkdir()
        self._log = folder / "watcher.log"
        self._process: processes.Process | None = None

    def start(self, **environment: str) -> None:
        arguments = ["--nats", self._url, "--source", "directory", "--path", str(self._manifests)]
        environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.taking.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        self._process = processes.Process(
            "watcher", processes.module("ebbgate_watcher", *arguments), log=self._log, env=environment
        )
        self._process.start()

    def write(self, text: str) -> None:
        (self._manifests / "a.yaml").write_text(text)

    async def facts(self, count: int) -> list[Stored]:
        """Of pods, once all kinds are synced and there are so many."""
        filters = [f"{subjects.ROOT}.fact.pod.>", f"{subjects.ROOT}.synced.>"]
        async with asyncio.timeout(WITHIN_S):
            while True:
                stored = await follower.read(self._bus, streams.FACT, filters)
                if len(stored) == count + len(facts.KINDS):
                    return [message for message in stored if ".fact.pod." in message.subject]
                await asyncio.sleep(0.05)

    async def spans(self, name: str, count: int) -> list[receiver.Received]:
        async with asyncio.timeout(WITHIN_S):
            while len(found := [span for span in self.taking.spans if span.name == name]) < count:
                await asyncio.sleep(0.05)
        return found

    def stop(self) -> None:
        """With it goes what it hasn't sent yet."""
        if self._process:
            self._process.stop()
        self.taking.stop()


@pytest.fixture
def watching(server: Any, bus: connection.Bus, tmp_path: pathlib.Path) -> Iterator[Watching]:
    watching = Watching(server.url, bus, tmp_path)
    yield watching
    watching.stop()


async def test_each_fact_begins_a_trace_of_three_spans(watching: Watching) -> None:
    watching.write(POD % (1, 1))
    watching.start()
    (fact,) = await watching.facts(1)
    sent = trace.of(fact.headers)
    assert sent is not None
    assert sent.sampled
    async with asyncio.timeout(WITHIN_S):
        while len(spans := watching.taking.of(sent.trace)) < 3:
            await asyncio.sleep(0.05)
    by_name = {span.name: span for span in spans}
    root = by_name["receive pod"]
    assert (root.parent, root.attributes["ebbgate.object"]) == ("", "shop/p1")
    send, normalise = by_name["send ebbgate.v1.fact.pod"], by_name["normalise pod"]
    assert (send.span, send.parent, send.kind) == (sent.span, root.span, "producer")
    assert normalise.parent == root.span
    assert root.began_ns == normalise.began_ns <= normalise.ended_ns <= send.began_ns <= send.ended_ns


async def test_who_samples_nothing_says_so_to_all_others(watching: Watching) -> None:
    watching.write(POD % (1, 1))
    watching.start(OTEL_TRACES_SAMPLER="always_off")
    (fact,) = await watching.facts(1)
    sent = trace.of(fact.headers)
    assert sent is not None
    assert not sent.sampled
    watching.stop()
    assert watching.taking.spans == []


async def test_of_many_at_once_some_are_recorded(watching: Watching) -> None:
    watching.write("".join(POD % (number, number) for number in range(MANY)))
    watching.start()
    stored = await watching.facts(MANY)
    contexts = [context for each in stored if (context := trace.of(each.headers))]
    assert len({context.trace for context in contexts}) == MANY
    assert sum(context.sampled for context in contexts) == SAMPLED_MAX
    roots = await watching.spans("receive pod", SAMPLED_MAX)
    assert len(roots) == SAMPLED_MAX
