"""A real TCP proxy before the API server: slow, or closing connections in the middle of what they say."""

import asyncio
import contextlib
import json
import pathlib
import random
from collections.abc import AsyncIterator

import msgspec

from ebbgate_lab import apiserver


class Habits(msgspec.Struct):
    """May be changed while it runs. `pause_s`: before each `piece` of bytes towards the client. `cut_after`:
    bytes towards the client after which a connection is closed, at random up to twice as many; 0: never.
    """

    piece: int = 64 * 1024
    pause_s: float = 0.0
    cut_after: int = 0


class Proxy:
    def __init__(self, port: int, habits: Habits, choice: random.Random) -> None:
        self.port = port
        self.habits = habits
        self.cuts = 0
        self._choice = choice

    async def relay(
        self, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection(*target)
            both = [
                asyncio.ensure_future(self._pass(reader, there_writer, Habits())),
                asyncio.ensure_future(self._pass(there_reader, writer, self.habits)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in (*both, there_writer, writer):
                    each.cancel() if isinstance(each, asyncio.Future) else each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, habits: Habits) -> None:
        left = self._choice.randint(1, 2 * habits.cut_after) if habits.cut_after else 0
        with contextlib.suppress(OSError):
            while piece := await reader.read(habits.piece):
                await asyncio.sleep(habits.pause_s)
                if left and (left := left - len(piece)) <= 0:
                    self.cuts += 1
                    writer.write(piece[:left])
                    await writer.drain()
                    return
                writer.write(piece)
                await writer.drain()


@contextlib.asynccontextmanager
async def before(api: apiserver.ApiServer, habits: Habits, seed: int) -> AsyncIterator[Proxy]:
    (port, *_) = apiserver.free_ports()
    proxy = Proxy(port, habits, random.Random(seed))
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await proxy.relay((api.host, api.port), reader, writer)
        finally:
            running.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def kubeconfig(api: apiserver.ApiServer, proxy: Proxy, folder: pathlib.Path) -> str:
    """The watcher's, by way of the proxy; TLS goes through it unopened."""
    content = json.loads(api.kubeconfig().read_text())
    content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = folder / "proxied.kubeconfig"
    path.write_text(json.dumps(content))
    return str(path)
