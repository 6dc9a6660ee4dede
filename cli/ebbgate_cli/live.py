"""Reading the bus for a person who waits: soon, or with a clear word why not."""

import asyncio
import datetime
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from ebbgate_bus.contracts import subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.contracts.streams import Stream
from ebbgate_bus.runtime import access, connection, follower
from ebbgate_cli import ways

T = TypeVar("T")
CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
STORED_AT = "Nats-Time-Stamp"
"""When a message was stored: RFC 3339, as the server writes it on what it republishes."""
DEFAULT_URL = access.URL


class Unreachable(Exception):
    """The bus didn't answer; the text says what to do."""


def run(reach: access.Access, work: Callable[[connection.Bus], Coroutine[Any, Any, T]]) -> T:
    """The result of `work` with a connection. Raises Unreachable."""
    logging.getLogger("ebbgate_bus").setLevel(logging.CRITICAL)  # a person reads the error, not the log
    try:
        with ways.opened(reach) as found:
            return asyncio.run(_connected(found, work))
    except ways.NoWay as error:
        raise Unreachable(str(error)) from error


async def _connected(reach: access.Access, work: Callable[[connection.Bus], Awaitable[T]]) -> T:
    troubles: list[str] = []
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S + (connection.ASKED_S if reach.token else 0)):
            bus = await connection.connect(
                reach, name="ebbgate-cli", principal=Principal(Role.READER), heed=troubles.append
            )
    except access.Unusable as error:
        raise Unreachable(str(error)) from error
    except (TimeoutError, OSError, nats.errors.Error) as error:
        raise Unreachable(
            f"no answer from NATS at {reach.shown}{_because(troubles)}: is it the right address "
            "(--nats, EBBGATE_NATS_URL), and can it be reached from here? "
            "In a cluster: --nats kubectl: goes by a port that kubectl forwards"
            + (". Where tokens are shown an usher judges them: does one run?" if reach.token else "")
        ) from error
    try:
        return await work(bus)
    finally:
        await bus.close()


def _because(troubles: list[str]) -> str:
    """The last word is the nearest to what is wrong: earlier ones may be another server's."""
    return f" ({troubles[-1]})" if troubles else ""


async def read(bus: connection.Bus, stream: Stream, *filters: str) -> list[Stored]:
    """What is stored under `filters`. Raises Unreachable if the stream can't be read."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await follower.read(bus, stream, filters)
    except TimeoutError as error:
        raise Unreachable(unreadable(stream)) from error


async def follow(bus: connection.Bus, subject: str) -> AsyncIterator[Stored]:
    """Messages as the server republishes them, from now on."""
    subscription = await bus.subscribe(subject)
    async for message in subscription.messages:
        yield stored(message)


async def replay(bus: connection.Bus, stream: Stream, since_s: float) -> AsyncIterator[Stored]:
    """What `stream`, a journal of what is republished, has of the last seconds; then what comes. Raises
    Unreachable.
    """
    config = ConsumerConfig(
        # With a name the request says in its subject what is asked for, and the server's permissions see it.
        name=f"tap-{os.urandom(6).hex()}",
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=since_s),
    )
    try:
        subscription = await bus.jetstream(prefix=bus.api).subscribe(
            f"{subjects.LIVE}.>", stream=stream.name, ordered_consumer=True, config=config
        )
    except nats.errors.Error as error:
        raise Unreachable(unreadable(stream)) from error
    async for message in subscription.messages:
        yield stored(message)


def stored(message: Msg) -> Stored:
    """By the sequence in its own stream, and with the time at which that stored it, also where a journal has
    it: there the server names its source, `PLAN 12 …`.
    """
    headers = dict(message.headers or {})
    sequence = headers.get("Nats-Sequence", "0")
    if source := headers.get("Nats-Stream-Source"):
        sequence = source.split()[1]
        headers[STORED_AT] = message.metadata.timestamp.isoformat()
    return Stored(message.subject, message.data, int(sequence), headers)


async def follow_stored(
    bus: connection.Bus, stream: Stream, subject: str
) -> AsyncIterator[tuple[Stored, ...]]:
    """What is stored under `subject` first, then what comes, in batches. Raises Unreachable."""
    batches = follower.Follower(bus, stream, [subject]).batches()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            first = await anext(batches)
        yield first.messages
        async for batch in batches:
            yield batch.messages
    except TimeoutError as error:
        raise Unreachable(unreadable(stream)) from error
    finally:
        await batches.aclose()


def unreadable(stream: Stream) -> str:
    return f"NATS answers, but its stream {stream.name} can't be read: has a resolver or a watcher run yet?"
