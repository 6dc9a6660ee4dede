"""A real nats-server for every test that asks for one, on a free port, with its own empty store."""

import asyncio
import pathlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from ebbgate_bus.runtime import connection, jetstream
from ebbgate_lab import processes


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


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


async def _until_journal_listens(bus: connection.Bus) -> None:
    """A stream that takes from others begins some 0.1 s after it was made, and then with what is there."""
    async with asyncio.timeout(10):
        while any(
            source["active"] < 0
            for source in (await jetstream.request(bus, "STREAM.INFO.JOURNAL", {}))["sources"]
        ):
            await asyncio.sleep(0.01)


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[connection.Bus]:
    """A connection, with the streams in place."""
    bus = await connection.connect(server.url, name="test")
    await jetstream.ensure_streams(bus)
    await _until_journal_listens(bus)
    yield bus
    await bus.close()
