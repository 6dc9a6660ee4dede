"""The frame of every service: one asyncio loop, ended by SIGTERM or SIGINT, dying loudly on a bug.

A service that meets a broken invariant dies; restart is safe, since the truth is reread. Ending takes nothing
out of the kernel or off the bus.
"""

import asyncio
import importlib.metadata
import logging
import signal
import sys
import time
import types
from collections.abc import Awaitable, Callable

import msgspec

from ebbgate_bus.contracts import codec, reports, subjects
from ebbgate_bus.runtime import connection, tracing

VERSION = importlib.metadata.version("ebbgate-bus")
"""Of all of Ebbgate: its packages are released together."""
BEAT_INTERVAL_S = 1.0
STOP_AGAIN_S = 0.5

log = logging.getLogger(__name__)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` until it returns or a signal asks to stop. Exits with 1 on an exception, after one log
    line.
    """
    sys.excepthook = _died
    try:
        asyncio.run(_until_signalled(main))
    finally:
        tracing.close()


def _died(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    log.error("service.died", exc_info=(kind, error, trace))


async def _until_signalled(main: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(main())
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    asking = asyncio.ensure_future(asked.wait())
    await asyncio.wait({task, asking}, return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    if not task.done():
        await _end(task)
    if task.cancelled():
        log.info("service.stopped")
    else:
        task.result()


async def _end(task: asyncio.Future[None]) -> None:
    """Cancel `task`, and whatever it waits for, until it ends.

    Once isn't enough: `wait_for` of Python 3.11, which nats-py uses for requests, loses a cancellation that
    comes together with its answer (seen as a service that hung when stopped right after its start).
    """
    task.cancel()
    while not (await asyncio.wait({task}, timeout=STOP_AGAIN_S))[0]:
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()


class Lag(msgspec.Struct, frozen=True):
    """What a Beat says of it. `behind_s`: None if it isn't to be said; of no use while `starting`."""

    behind_s: float | None = None
    starting: bool = False


async def keep_beating(bus: connection.Bus, *, service: str, name: str, lag: Callable[[], Lag] = Lag) -> None:
    """Publish a Beat each second, for ever, with what `lag` says then. A beat that can't be sent is not made
    up for.
    """
    subject, began = subjects.beat(service, name), time.monotonic()
    while True:
        if bus.is_connected:
            now = lag()
            behind_s = time.monotonic() - began if now.starting else now.behind_s
            beat = reports.Beat(
                service=service, name=name, version=VERSION, behind_s=behind_s, starting=now.starting
            )
            await bus.publish(subject, codec.encode(beat))
        await asyncio.sleep(BEAT_INTERVAL_S)
