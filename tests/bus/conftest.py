"""A real nats-server for every test that asks for one, on a free port, with its own empty store."""

import asyncio
import os
import pathlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from ebbgate_bus.runtime import connection, jetstream
from ebbgate_lab import processes

from . import cluster

on_one = pytest.mark.parametrize("server", [1], indirect=True, ids=["one"])
"""For tests that are about the only server there is: its death is felt by all."""


class Server:
    """A nats-server that keeps its port and its store over restarts."""

    def __init__(self, folder: pathlib.Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process = processes.nats_server(folder, host="127.0.0.1", port=self.port)

    def start(self) -> None:
        self.process.start()
        processes.until_listening("127.0.0.1", self.port)

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        self.kill()


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster.Cluster]:
    """It takes seconds until three servers agree on who leads: once for all tests, each with new streams."""
    three = cluster.Cluster(tmp_path_factory.mktemp("three"))
    try:
        three.start()
        yield three
    finally:
        three.stop()


@pytest.fixture
def server(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[Server | cluster.Cluster]:
    """One, or a cluster of three for tests that are `on_both`; and for all but those that are `on_one` with
    EBBGATE_SERVERS=3.
    """
    if getattr(request, "param", int(os.environ.get("EBBGATE_SERVERS", "1"))) > 1:
        three: cluster.Cluster = request.getfixturevalue("three")
        three.start()
        yield three
        return
    server = Server(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def _until_journal_listens(bus: connection.Bus) -> None:
    """A stream that takes from others begins some 0.1 s after it was made, and then with what is there."""
    async with asyncio.timeout(10):
        while any(
            source["active"] < 0
            for source in (await jetstream.request(bus, "STREAM.INFO.JOURNAL", {}))["sources"]
        ):
            await asyncio.sleep(0.01)


@pytest.fixture
async def bus(server: Server | cluster.Cluster) -> AsyncIterator[connection.Bus]:
    """A connection, with the streams in place."""
    bus = await connection.connect(server.url, name="test")
    replicas = 1
    if isinstance(server, cluster.Cluster):
        replicas = cluster.SERVERS
        await cluster.remove_streams(bus)
    await jetstream.ensure_streams(bus, replicas=replicas)
    await _until_journal_listens(bus)
    yield bus
    await bus.close()
