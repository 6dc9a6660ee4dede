"""What streams hold of the past: read to the end, once, with the time at which each message was stored."""

import asyncio
import datetime
import os
from collections.abc import Sequence

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ebbgate_bus.contracts import subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.streams import Stream
from ebbgate_bus.runtime import connection, follower, jetstream
from ebbgate_cli import live


async def read(
    bus: connection.Bus, stream: Stream, filters: Sequence[str], *, since_s: float = 0.0
) -> list[Stored]:
    """All that `stream` has under `filters` now, oldest first, by its stored name, sequence and time.
    `since_s`: nothing older, in seconds since 1970. A stream that doesn't exist has nothing. Raises
    live.Unreachable.
    """
    inbox = bus.new_inbox()
    try:
        subscription = await bus.subscribe(inbox, pending_msgs_limit=0, pending_bytes_limit=0)
        try:
            async with asyncio.timeout(live.READ_TIMEOUT_S):
                pending = await _start(bus, stream, _consumer(inbox, filters, since_s))
                return await _all(bus, subscription, pending)
        finally:
            await subscription.unsubscribe()
    except jetstream.ApiError as error:
        if error.code == jetstream.NOT_FOUND:
            return []
        raise live.Unreachable(_text(stream, str(error))) from error
    except (TimeoutError, nats.errors.Error) as error:
        raise live.Unreachable(_text(stream, str(error) or "no answer in time")) from error


def _text(stream: Stream, reason: str) -> str:
    return f"NATS answers, but its stream {stream.name} can't be read: {reason}"


def _consumer(inbox: str, filters: Sequence[str], since_s: float) -> dict[str, object]:
    """The server removes it after a while: a reader may not, as others have consumers, too."""
    return {
        "name": f"trace-{os.urandom(6).hex()}",
        "deliver_subject": inbox,
        "deliver_policy": "by_start_time",
        "opt_start_time": datetime.datetime.fromtimestamp(since_s, datetime.UTC).isoformat(),
        "filter_subjects": list(filters),
        "ack_policy": "none",
        "replay_policy": "instant",
        "flow_control": True,
        "idle_heartbeat": 1_000_000_000,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 10_000_000_000,
    }


async def _start(bus: connection.Bus, stream: Stream, config: dict[str, object]) -> int:
    """The number of messages that will come."""
    body = {"stream_name": stream.name, "config": config, "action": "create"}
    answer = await jetstream.request(bus, f"CONSUMER.CREATE.{stream.name}.{config['name']}", body)
    return int(answer["num_pending"]) + int(answer["delivered"]["consumer_seq"])


async def _all(bus: connection.Bus, subscription: Subscription, pending: int) -> list[Stored]:
    found: list[Stored] = []
    while len(found) < pending:
        message = await subscription.next_msg(timeout=live.READ_TIMEOUT_S)
        if await follower.answered(bus, message):
            continue
        found.append(_stored(message))
        if message.metadata.num_pending == 0:
            break
    return found


def _stored(message: Msg) -> Stored:
    if message.subject.startswith(f"{subjects.LIVE}."):
        found = live.stored(message)
        return Stored(subjects.stored(found.subject), found.payload, found.sequence, found.headers)
    headers = dict(message.headers or {}) | {live.STORED_AT: message.metadata.timestamp.isoformat()}
    return Stored(message.subject, message.data, message.metadata.sequence.stream, headers)
