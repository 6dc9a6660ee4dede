"""`python -m ebbgate_watcher`: says on the bus what Kubernetes (or a directory of manifests) says.

Composes a source, the mirror and the bus, and turns the loop: take what arrived, step, carry out. One task
publishes, so that order on the bus is the order of the steps; sources and followers only fill its inbox.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Sequence

from ebbgate_bus.runtime import connection, jetstream, logs, publisher, service
from ebbgate_watcher import settings
from ebbgate_watcher.core import inputs, manifests, mirror
from ebbgate_watcher.io import bus, directory, sources

INBOX_LIMIT = 256
"""Deliveries waiting; beyond it sources wait, and the API server keeps the rest."""
STEP_LIMIT = 256
"""Deliveries of one step: what a burst costs at most before the first of it is on the bus."""

log = logging.getLogger("ebbgate_watcher")


class _Inbox:
    """What arrived since the last step. `interrupted`: the bus was away, and may have lost what it had."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Sequence[inputs.Input]] = asyncio.Queue(INBOX_LIMIT)
        self._stirred = asyncio.Event()
        self.interrupted = True

    async def deliver(self, arrived: Sequence[inputs.Input]) -> None:
        await self._queue.put(arrived)
        self._stirred.set()

    def interrupt(self) -> None:
        self.interrupted = True
        self._stirred.set()

    async def drain(self, patience_s: float | None) -> list[inputs.Input]:
        """All that waits, up to STEP_LIMIT deliveries; nothing after `patience_s`."""
        try:
            async with asyncio.timeout(patience_s):
                await self._stirred.wait()
        except TimeoutError:
            return []
        self._stirred.clear()
        arrived: list[inputs.Input] = []
        for _ in range(min(self._queue.qsize(), STEP_LIMIT)):
            arrived += self._queue.get_nowait()
        if not self._queue.empty():
            self._stirred.set()
        return arrived


async def main(chosen: settings.Settings) -> None:
    nats = await connection.connect(chosen.nats, name=f"watcher {chosen.name}")
    try:
        await jetstream.ensure_streams(nats)
        async with asyncio.TaskGroup() as tasks:
            inbox = _Inbox()
            nats.on_interruption(inbox.interrupt)
            tasks.create_task(_turn(nats, inbox, manifests.kinds(node_networks=chosen.node_networks)))
            tasks.create_task(_source(chosen).run(inbox.deliver))
            tasks.create_task(bus.follow_node_networks(nats, inbox.deliver))
            tasks.create_task(bus.follow_status(nats, inbox.deliver))
            tasks.create_task(service.keep_beating(nats, service="watcher", name=chosen.name))
    finally:
        await nats.close()


async def _turn(nats: connection.Bus, inbox: _Inbox, kinds: Sequence[str]) -> None:
    reflection = mirror.Mirror(kinds)
    pipeline = publisher.Publisher(nats)
    await pipeline.start()
    told = False
    while True:
        arrived: list[inputs.Input] = []
        if inbox.interrupted:
            inbox.interrupted = False  # before reading: an interruption meanwhile asks for another
            arrived.append(await bus.read_published(nats, kinds))
        else:
            wake_at = reflection.wake_at()
            arrived += await inbox.drain(None if wake_at is None else max(0.0, wake_at - time.monotonic()))
        await bus.carry_out(reflection.step(arrived, time.monotonic()), pipeline)
        if reflection.ready and not told:
            told = True
            log.info("watcher.ready")


def _source(chosen: settings.Settings) -> sources.Source:
    if chosen.source == "directory":
        return directory.Directory(chosen.path, node_networks=chosen.node_networks)
    # Imported only where it is used: the official client takes 0.4 s and 45 MB.
    from ebbgate_watcher.io import kubernetes

    return kubernetes.Kubernetes(chosen.kubeconfig)


if __name__ == "__main__":
    chosen = settings.parse_settings()
    logs.setup(service="watcher", name=chosen.name)
    service.run(functools.partial(main, chosen))
