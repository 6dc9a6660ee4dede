"""Two watchers and one Lease, on the real API server: who publishes, who takes over, what is said twice."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import follower
from ebbgate_lab import apiserver, processes

from .conftest import WITHIN_S, Watcher, events, until_logged
from .crowd import Crowd, facts_of, fresh

SOAK = os.environ.get("EBBGATE_EXAMPLES") == "soak"
KILLS, PODS = (20, 20_000) if SOAK else (3, 2_000)
DURATION_S, RENEW_S, RETRY_S = 3.0, 2.0, 0.3
SLACK_S = 3.0
"""For a process on a machine with other things to do."""
pytestmark = pytest.mark.timeout(3600 if SOAK else 120)


class Pair:
    """Two watchers on one bus."""

    def __init__(self, watcher: Watcher, api: apiserver.ApiServer) -> None:
        self.watcher = watcher
        arguments = [
            *("--source", "kubernetes", "--kubeconfig", str(api.kubeconfig())),
            *("--lease-duration", str(DURATION_S), "--lease-renew-deadline", str(RENEW_S)),
            *("--lease-retry-period", str(RETRY_S)),
        ]
        self._ports = dict(zip("ab", apiserver.free_ports(), strict=False))
        health = ("--health-bind", "127.0.0.1", "--health-port")
        self.processes = [
            watcher.another(name, *arguments, *health, str(port)) for name, port in self._ports.items()
        ]

    async def start(self) -> tuple[processes.Process, processes.Process]:
        """Leader and stand-by, both ready."""
        first, second = self.processes
        first.start()
        await until_logged(first, "watcher.ready")
        second.start()
        await until_logged(second, "watcher.warmed")
        return first, second

    def port(self, name: str) -> int:
        return self._ports[name]

    async def metrics(self, name: str) -> dict[str, float]:
        """Name, and kind if there is one → value."""
        _, text = await self.watcher.health(self.port(name), "/metrics")
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return {
            " ".join([each.name, *filter(None, [each.labels.get("kind")])]): each.value for each in samples
        }

    async def until_counted(self, name: str, pods: int) -> dict[str, float]:
        """Its metrics, once it knows so many pods: who stands by may be a moment behind."""
        async with asyncio.timeout(WITHIN_S):
            while (found := await self.metrics(name))["ebbgate_watcher_objects pod"] != pods:
                await asyncio.sleep(0.02)
        return found

    async def until_equal(self, api: apiserver.ApiServer) -> None:
        """Until FACT is what a fresh list says."""
        await self.watcher.until(lambda stored: facts_of(stored) == fresh(api))


@contextlib.asynccontextmanager
async def overheard(watcher: Watcher) -> AsyncIterator[list[Stored]]:
    """All that is stored in FACT meanwhile."""
    assert watcher.bus is not None
    heard: list[Stored] = []
    following = follower.Follower(watcher.bus, streams.FACT, [f"{subjects.ROOT}.fact.>"]).batches()
    heard += (await anext(following)).messages

    async def listen() -> None:
        async for batch in following:
            heard.extend(batch.messages)

    task = asyncio.ensure_future(listen())
    try:
        yield heard
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until_heard(heard: list[Stored], count: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while len(heard) < count:
            await asyncio.sleep(0.01)


def doubled(heard: list[Stored]) -> list[str]:
    """Subjects whose payload was stored twice in a row."""
    last: dict[str, bytes] = {}
    found = []
    for message in heard:
        if last.get(message.subject) == message.payload and message.subject != subjects.FACT_WRITER:
            found.append(message.subject)
        last[message.subject] = message.payload
    return found


@pytest.fixture
def pair(watcher: Watcher, api: apiserver.ApiServer) -> Pair:
    return Pair(watcher, api)


async def test_one_publishes_and_the_other_is_ready_to(pair: Pair, api: apiserver.ApiServer) -> None:
    _, second = await pair.start()
    Crowd(api, 1).create(20)
    await pair.until_equal(api)
    assert not events(second, "facts.claimed")
    pods = len([subject for subject in fresh(api) if ".fact.pod." in subject])
    first, second = [await pair.until_counted(name, pods) for name in ("a", "b")]
    assert (first["ebbgate_watcher_leader"], second["ebbgate_watcher_leader"]) == (1.0, 0.0)
    assert (first["ebbgate_watcher_ready"], second["ebbgate_watcher_ready"]) == (1.0, 1.0)
    assert first["ebbgate_watcher_lag_seconds_count pod"] >= 20
    assert first["ebbgate_watcher_watch_age_seconds pod"] > 0
    assert first["ebbgate_watcher_lists_total pod"] == 1
    assert second["ebbgate_watcher_published_total"] == 0


async def test_who_is_stopped_hands_over_at_once(pair: Pair, api: apiserver.ApiServer) -> None:
    first, second = await pair.start()
    async with overheard(pair.watcher) as heard:
        began = time.monotonic()
        await asyncio.to_thread(first.stop)
        await until_logged(second, "watcher.ready")
        assert time.monotonic() - began < DURATION_S
        assert len(events(first, "lease.released")) == 1
        Crowd(api, 2).stir(50, 40)
        await pair.until_equal(api)
        assert doubled(heard) == []


async def test_the_leader_is_killed_again_and_again_under_churn(pair: Pair, api: apiserver.ApiServer) -> None:
    leader, stand_by = await pair.start()
    crowd, seed = Crowd(api, random.randrange(10**6)), random.randrange(10**6)
    choice = random.Random(seed)
    await asyncio.to_thread(crowd.create, PODS)
    async with overheard(pair.watcher) as heard:
        for _ in range(KILLS):
            churn = asyncio.ensure_future(asyncio.to_thread(crowd.stir, PODS, PODS // 4))
            await until_heard(heard, len(heard) + choice.randrange(PODS // 10))
            ready = len(events(stand_by, "watcher.ready"))
            leader.kill()
            began = time.monotonic()
            await until_logged(stand_by, "watcher.ready", ready + 1)
            assert time.monotonic() - began < DURATION_S + 2 * RETRY_S + SLACK_S
            warmed = len(events(leader, "watcher.warmed"))
            leader.start()
            await until_logged(leader, "watcher.warmed", warmed + 1)
            leader, stand_by = stand_by, leader
            await churn
            await pair.until_equal(api)
        assert doubled(heard) == [], f"seed {seed}"
    await asyncio.to_thread(crowd.clear)
    await pair.until_equal(api)


async def test_bus_and_api_server_are_killed_under_churn(pair: Pair, api: apiserver.ApiServer) -> None:
    leader, _ = await pair.start()
    crowd = Crowd(api, 4)
    await asyncio.to_thread(crowd.create, 100)
    for _ in range(2):
        churn = asyncio.ensure_future(asyncio.to_thread(crowd.stir, 150, 100))
        pair.watcher.nats.kill()
        pair.watcher.nats.start()
        await churn
        await pair.until_equal(api)
    ready = len(events(leader, "facts.claimed"))
    assert ready >= 2
    api.api.kill()
    await until_logged(leader, "lease.lost")
    assert (await pair.watcher.health(pair.port("a"), "/readyz"))[0] == 200
    api.start_api()
    await asyncio.to_thread(crowd.stir, 150, 50)
    await pair.until_equal(api)
    await asyncio.to_thread(crowd.clear)


async def test_a_leader_that_slept_through_its_lease_writes_nothing(
    pair: Pair, api: apiserver.ApiServer
) -> None:
    first, second = await pair.start()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        await until_logged(second, "watcher.ready")
        crowd = Crowd(api, 3)
        await asyncio.to_thread(crowd.stir, 100, 100)
        await pair.until_equal(api)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    async with overheard(pair.watcher) as heard:
        await until_logged(first, "lease.lost")
        await asyncio.to_thread(crowd.stir, 100, 100)
        await pair.until_equal(api)
        assert doubled(heard) == []
    assert len(events(first, "facts.claimed")) == 1
    assert len(events(second, "facts.claimed")) == 1
    await asyncio.to_thread(crowd.clear)


async def test_without_the_right_to_the_lease_it_is_said_once(
    watcher: Watcher, api: apiserver.ApiServer
) -> None:
    port = apiserver.free_ports()[0]
    process = watcher.another(
        *("barred", "--health-port", str(port), "--health-bind", "127.0.0.1"),
        *("--source", "kubernetes", "--kubeconfig", str(api.kubeconfig())),
        *("--lease", "kube-system/x", "--lease-retry-period", "0.05", "--lease-renew-deadline", "1"),
    )
    process.start()
    (line,) = await until_logged(process, "source.broken")
    assert 'cannot get resource "leases" in API group "coordination.k8s.io"' in str(line["reason"])
    status, reason = await watcher.health(port, "/readyz")
    assert (status, "Lease" in reason) == (503, True)
    assert not events(process, "facts.claimed")
