"""What streams hold of the past: read to the end, once, with the time at which each message was stored."""

import asyncio
import datetime
import os
from collections.abc import Sequence

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from ebbgate_bus.contracts import subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.streams import Stream
from ebbgate_bus.runtime import connection
from ebbgate_cli import live


async def read(
    bus: connection.Bus, stream: Stream, filters: Sequence[str], *, since_s: float = 0.0
) -> list[Stored]:
    """All that `stream` has under `filters` now, oldest first, by its stored name, sequence and time.
    `since_s`: nothing older, in seconds since 1970. A stream that doesn't exist has nothing. Raises
    live.Unreachable.
    """
    config = ConsumerConfig(
        name=f"trace-{os.urandom(6).hex()}",
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=datetime.datetime.fromtimestamp(since_s, datetime.UTC),
        filter_subjects=list(filters),
        inactive_threshold=30,
    )
    try:
        async with asyncio.timeout(live.READ_TIMEOUT_S):
            return await _all(bus, stream, config)
    except nats.js.errors.NotFoundError:
        return []
    except (TimeoutError, nats.errors.Error) as error:
        raise live.Unreachable(
            f"NATS answers, but its stream {stream.name} can't be read: {error or 'no answer in time'}"
        ) from error


async def _all(bus: connection.Bus, stream: Stream, config: ConsumerConfig) -> list[Stored]:
    journal = bus.jetstream()
    subscription = await journal.pull_subscribe_bind(
        consumer=(await journal.add_consumer(stream.name, config)).name, stream=stream.name
    )
    found: list[Stored] = []
    try:
        pending = (await subscription.consumer_info()).num_pending
        while pending:
            batch = await subscription.fetch(min(pending, 1000), timeout=live.READ_TIMEOUT_S)
            found += map(_stored, batch)
            pending = batch[-1].metadata.num_pending
    finally:
        await subscription.unsubscribe()
        await journal.delete_consumer(stream.name, config.name or "")
    return found


def _stored(message: Msg) -> Stored:
    if message.subject.startswith(f"{subjects.LIVE}."):
        found = live.stored(message)
        return Stored(subjects.stored(found.subject), found.payload, found.sequence, found.headers)
    headers = dict(message.headers or {}) | {live.STORED_AT: message.metadata.timestamp.isoformat()}
    return Stored(message.subject, message.data, message.metadata.sequence.stream, headers)
