"""Traffic and drops: what the kernel counted, now and then; what it dropped, as it happens. Kernel ─▶ bus.

Only tells: nothing that is counted changes what is done. A bus that is away costs the telling, and nothing is
kept for later.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from ebbgate_bus.contracts import codec, envelope, reports, subjects
from ebbgate_bus.runtime import connection, publisher, tracing
from ebbgate_programmer.core import layout, traffic
from ebbgate_programmer.io import bpf, kernel, objects, ringbuffer, tally

LOOK_S = 1.0
"""How often it is looked whether there are maps to read drops from."""

log = logging.getLogger(__name__)


class InWorker(Protocol):
    """Runs `work` in the thread that the kernel belongs to."""

    def __call__(self, work: Callable[[], reports.Stats], /) -> Awaitable[reports.Stats]: ...


class Telling:
    """`names`: whose the numbers are, as of the last pass."""

    def __init__(self, node: str, bus: connection.Bus, made: kernel.Kernel, counts: tally.Tally) -> None:
        self.names = traffic.Names()
        self._counts = counts
        self._node, self._bus, self._kernel = node, bus, made
        self._publisher = publisher.Publisher(bus)
        self._said = b""

    async def stats_for_ever(self, in_worker: InWorker) -> None:
        """Published when something was counted since the last time."""
        await self._publisher.start()
        while True:
            await asyncio.sleep(reports.STATS_S)
            try:
                self._counts.stats = await in_worker(self._stats)
                payload = codec.encode(self._counts.stats)
                if payload != self._said:
                    # The time between two readings makes rates of them: the node's, as its counters are.
                    headers = tracing.headers() | {envelope.SEEN: str(time.time_ns())}
                    message = envelope.Outgoing(subjects.stats(self._node), payload, headers)
                    await self._publisher.publish([message])
                    self._said = payload
            except (bpf.Refused, publisher.Refused) as error:
                log.warning("stats.refused", extra={"fields": {"node": self._node, "reason": str(error)}})

    def _stats(self) -> reports.Stats:
        names = self.names
        counted = self._kernel.counted(names.slots)
        self._kernel.forget_traffic(traffic.stale(counted, names))
        return traffic.stats(self._node, counted, names)

    async def drops_for_ever(self) -> None:
        """Each as a message of its own, that is stored nowhere."""
        while (ring := self._open()) is None:
            await asyncio.sleep(LOOK_S)
        loop, come = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(ring.descriptor, come.set)
        try:
            while True:
                await come.wait()
                come.clear()
                await self._tell(ring.read())
        finally:
            loop.remove_reader(ring.descriptor)
            ring.close()

    async def _tell(self, drops: list[bytes]) -> None:
        for data in drops if self._bus.is_connected else ():
            dropped = traffic.dropped(self._node, layout.unpack_drop(data), self.names)
            await self._bus.publish(subjects.dropped(self._node), codec.encode(dropped))

    def _open(self) -> ringbuffer.RingBuffer | None:
        try:
            return ringbuffer.RingBuffer(self._kernel.pins.path("drops"))
        except (bpf.Refused, objects.Unloadable):
            return None
