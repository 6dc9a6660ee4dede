"""One real kube-apiserver with etcd and one nats-server for all tests here; each test has its own objects."""

import asyncio
import json
import os
import pathlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest

from ebbgate_bus.contracts import facts, streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import connection, follower, jetstream
from ebbgate_lab import apiserver, processes

WITHIN_S = 30.0


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apiserver.ApiServer]:
    """The API server; tests may restart it, and leave it running."""
    server = apiserver.ApiServer(tmp_path_factory.mktemp("kubernetes"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Watcher:
    """The watcher as a process on a NATS of its own, and a look at what it published."""

    def __init__(
        self, folder: pathlib.Path, api: apiserver.ApiServer, *, host: str = "127.0.0.1", netns: str = ""
    ) -> None:
        self._folder = folder
        self._netns = netns
        self._others: list[processes.Process] = []
        port, *_ = apiserver.free_ports()
        self.url = f"nats://{host}:{port}"
        self.nats = processes.nats_server(folder, host=host, port=port)
        self.nats.start()
        processes.until_listening(host, port)
        self.process = self._process("watcher", *api.watcher_arguments())
        self.bus: connection.Bus | None = None

    async def connect(self) -> None:
        self.bus = await connection.connect(self.url, name="test")
        await jetstream.ensure_streams(self.bus)

    def _process(self, name: str, *arguments: str) -> processes.Process:
        command = processes.module("ebbgate_watcher", "--nats", self.url, "--name", name, *arguments)
        return processes.Process(name, command, log=self._folder / f"{name}.log", netns=self._netns)

    def another(self, name: str, *arguments: str) -> processes.Process:
        """One more watcher on this bus, not started yet."""
        self._others.append(self._process(name, *arguments))
        return self._others[-1]

    async def close(self) -> None:
        for process in (self.process, *self._others):
            process.stop()
        if self.bus:
            await self.bus.close()
        self.nats.kill()

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    async def stored(self) -> dict[str, Stored]:
        """What FACT holds: subject → message, tombstones included, but for who wrote it."""
        assert self.bus is not None
        filters = [f"{subjects.ROOT}.fact.>", f"{subjects.ROOT}.synced.>"]
        found = {message.subject: message for message in await follower.read(self.bus, streams.FACT, filters)}
        found.pop(subjects.FACT_WRITER, None)
        return found

    async def until(self, holds: Callable[[dict[str, Stored]], bool]) -> dict[str, Stored]:
        deadline = time.monotonic() + WITHIN_S
        while not holds(stored := await self.stored()):
            assert time.monotonic() < deadline, sorted(stored)
            await asyncio.sleep(0.02)
        return stored

    async def until_present(self, *wanted: str) -> dict[str, Stored]:
        return await self.until(
            lambda stored: all(each in stored and stored[each].payload for each in wanted)
        )

    async def until_gone(self, *unwanted: str) -> dict[str, Stored]:
        return await self.until(
            lambda stored: all(each in stored and not stored[each].payload for each in unwanted)
        )

    async def until_synced(self) -> dict[str, Stored]:
        await self.until_present(*map(subjects.synced, facts.KINDS))
        return await self.stored()  # anew: the facts may have been read before the last of them came

    def events(self, event: str) -> list[dict[str, object]]:
        return events(self.process, event)

    async def until_logged(self, event: str, count: int = 1) -> list[dict[str, object]]:
        return await until_logged(self.process, event, count)

    async def health(self, port: int, path: str) -> tuple[int, str]:
        """HTTP status and body."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as answer,
        ):
            return answer.status, await answer.text()


def events(process: processes.Process, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


async def until_logged(process: processes.Process, event: str, count: int = 1) -> list[dict[str, object]]:
    async with asyncio.timeout(WITHIN_S):
        while len(found := events(process, event)) < count:
            assert process.running, process.log.read_text()
            await asyncio.sleep(0.02)
    return found


@pytest.fixture
async def watcher(tmp_path: pathlib.Path, api: apiserver.ApiServer) -> AsyncIterator[Watcher]:
    """Not started yet."""
    watcher = Watcher(tmp_path, api)
    try:
        await watcher.connect()
        yield watcher
    finally:
        await watcher.close()
