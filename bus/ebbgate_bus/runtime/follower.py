"""Following a stream: subscribe to `live` first, then read what is stored, merge by sequence, go on live.

In this order nothing is missed: a message stored after the read came live, one stored before it was read, and
a live one whose sequence the read has passed is known already. After an interruption the stream is read anew
and the reader *replaces* all it had. One stream consumer per node that stays would collapse the server at
thousands of nodes (measured); here consumers live only while reading.
"""

import asyncio
import contextlib
import logging
import operator
import os
from collections import deque
from collections.abc import AsyncGenerator, Sequence

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ebbgate_bus.contracts import envelope, permissions, subjects, trace
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.streams import Stream
from ebbgate_bus.runtime import connection, jetstream

RETRY_S = 0.3
IDLE_TIMEOUT_S = 5.0
"""A read during which nothing arrives for so long is begun again."""
MAX_BATCH = 10_000
"""Messages handed over at once, so that a flood doesn't keep the loop from beating."""
CHECK_S = 60.0
"""How often a follower asks whether it has all: a leader of a stream that dies between storing a message and
sending it on leaves nobody who would."""
GRACE_S = 1.0
"""For what is on its way meanwhile."""
QUEUE_LIMIT = 1_000_000
"""Messages waiting; a reader that is further behind reads the stream anew instead."""

EXISTS = (10148, 10013, 10105)
"""A consumer of that name is there, with another configuration, or in use."""

NO_MESSAGE = 10037

_OURS = (envelope.SEEN, envelope.TRACEPARENT, envelope.RESOURCE_VERSION, envelope.TTL, trace.WORK)

log = logging.getLogger(__name__)


_NO_HEADERS: dict[str, str] = {}


class Batch(msgspec.Struct, frozen=True, gc=False):
    """`replaced`: these are all there is, and what was known before is void. A tombstone has an empty
    payload.
    """

    replaced: bool
    messages: tuple[Stored, ...]


class Interrupted(Exception):
    """The read did not reach its end."""


async def read(
    bus: connection.Bus, stream: Stream, filters: Sequence[str], *, headers: bool = True, up_to: int = 0
) -> list[Stored]:
    """All messages stored under `filters` now, tombstones included, in stream order. Waits for the stream.
    `headers` False leaves them out: they are more than half of what 150,000 facts take in memory.

    `up_to`: a sequence that one of `filters` has or will have. A replica may be behind what another has
    acknowledged (seen: 14 of 17 messages); with this the read goes on until it has come so far.
    """
    parts = [tuple(filters)] if up_to else [(one,) for one in filters]
    found = await _read_all(bus, stream, parts, headers=headers, up_to=up_to)
    last: dict[str, Stored] = {}
    for message in (message for messages, _ in found for message in messages):
        # What was replaced while it was read has come twice.
        if message.subject not in last or last[message.subject].sequence < message.sequence:
            last[message.subject] = message
    return sorted(last.values(), key=lambda message: message.sequence)


async def _read_all(
    bus: connection.Bus,
    stream: Stream,
    parts: Sequence[tuple[str, ...]],
    *,
    headers: bool = True,
    up_to: int = 0,
) -> list[tuple[list[Stored], int]]:
    complained = False
    while True:
        try:
            return [await _read_part(bus, stream, part, headers=headers, up_to=up_to) for part in parts]
        except (nats.errors.Error, jetstream.ApiError, Interrupted) as error:
            if not complained:
                fields = {"stream": stream.name, "reason": str(error) or repr(error)}
                log.warning("stream.unreadable", extra={"fields": fields})
            complained = True
            await asyncio.sleep(RETRY_S)


async def _read_part(
    bus: connection.Bus, stream: Stream, filters: tuple[str, ...], *, headers: bool, up_to: int
) -> tuple[list[Stored], int]:
    """The messages under `filters`, and the sequence up to which they are complete."""
    names = bus.grant.consumers if bus.grant else {}
    if names and filters[0] not in names:
        return await _read_one(bus, stream, filters[0])
    replay = _Replay(bus, headers=headers)
    inbox = bus.new_inbox()
    subscription = await bus.subscribe(inbox, cb=replay.take, pending_msgs_limit=0, pending_bytes_limit=0)
    name = names.get(filters[0]) or f"read-{os.urandom(6).hex()}"
    try:
        await replay.until(await _start_consumer(bus, stream, filters, name, inbox), up_to)
        if not up_to and not names:
            await replay.until(0, await _head(bus, stream, filters[0]))
    finally:
        await _unsubscribe(subscription)
        await _remove_consumer(bus, stream, name)
    return replay.messages, max((message.sequence for message in replay.messages), default=0)


async def _head(bus: connection.Bus, stream: Stream, filter_: str) -> int:
    """The last sequence under `filter_` now, by the word of the stream's leader: so far must a replay go.

    What is replaced meanwhile comes at the end, in place of what was announced: 12 of 195 reads under churn
    lacked a subject that was always there. And it may come from a replica that is behind what another has
    acknowledged: 2 of 550 reads that followed an ack lacked its message. Whoever lacks a message and then
    listens live hears of it late, or never.
    """
    try:
        body = {"last_by_subj": filter_}
        answer = await jetstream.request(bus, f"STREAM.MSG.GET.{stream.name}", body)
    except jetstream.ApiError as error:
        if error.code == NO_MESSAGE:
            return 0
        raise
    return int(answer["message"]["seq"])


async def _read_one(bus: connection.Bus, stream: Stream, subject: str) -> tuple[list[Stored], int]:
    """As `_read_part`, for whoever may have no consumer there: the message of exactly one subject."""
    reply = await bus.request(f"{bus.api}.DIRECT.GET.{stream.name}.{subject}", timeout=IDLE_TIMEOUT_S)
    headers = reply.headers or {}
    if headers.get("Status") == "404":
        return [], 0
    sequence = headers.get("Nats-Sequence", "")
    if not sequence.isdecimal() or headers.get("Nats-Subject") != subject:
        raise Interrupted(f"an answer that isn't one: {headers}")
    ours = {name: headers[name] for name in _OURS if name in headers}
    return [Stored(subject, reply.data, int(sequence), ours)], int(sequence)


class _Replay:
    """What one short-lived consumer delivers."""

    def __init__(self, bus: connection.Bus, *, headers: bool) -> None:
        self._bus = bus
        self._wanted = headers
        self._arrived = asyncio.Event()
        self._caught_up = False
        self._headers: dict[str, str] = {}
        self.messages: list[Stored] = []

    async def take(self, message: Msg) -> None:
        if await answered(self._bus, message):
            return
        metadata = message.metadata
        headers = self._ours(message.headers) if self._wanted and message.headers else _NO_HEADERS
        self.messages.append(Stored(message.subject, message.data, metadata.sequence.stream, headers))
        self._caught_up = metadata.num_pending == 0
        self._arrived.set()

    def _ours(self, headers: dict[str, str]) -> dict[str, str]:
        """Rows of one revision have the same, and there may be 100,000 here at once: one object for them."""
        ours = {name: headers[name] for name in _OURS if name in headers}
        if ours != self._headers:
            self._headers = ours
        return self._headers

    async def until(self, pending: int, up_to: int) -> None:
        """Wait for `pending` messages, and one of sequence `up_to` or later. Raises Interrupted if none
        arrives for IDLE_TIMEOUT_S.
        """
        while (len(self.messages) < pending and not self._caught_up) or self._last() < up_to:
            self._arrived.clear()
            try:
                async with asyncio.timeout(IDLE_TIMEOUT_S):
                    await self._arrived.wait()
            except TimeoutError as error:
                raise Interrupted(f"{len(self.messages)} of {pending} messages came") from error

    def _last(self) -> int:
        return self.messages[-1].sequence if self.messages else 0


async def _start_consumer(
    bus: connection.Bus, stream: Stream, filters: tuple[str, ...], name: str, inbox: str
) -> int:
    """Begin a replay into `inbox`; the number of messages that it will bring.

    With one message kept per subject, "all" is "the last of each". A message that is replaced while the
    replay runs comes under its new sequence, at the end, so that their number doesn't shrink.
    """
    config = {
        "name": name,
        "deliver_subject": inbox,
        "deliver_policy": "all",
        "ack_policy": "none",
        "replay_policy": "instant",
        "flow_control": True,
        "idle_heartbeat": 1_000_000_000,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 30_000_000_000,
    }
    operation = f"CONSUMER.CREATE.{stream.name}.{name}"
    if len(filters) == 1:  # named in the subject, too: a node's permissions go by that
        config["filter_subject"] = filters[0]
        operation += f".{filters[0]}"
    else:
        config["filter_subjects"] = list(filters)
    body = {"stream_name": stream.name, "config": config, "action": "create"}
    try:
        answer = await jetstream.request(bus, operation, body)
    except jetstream.ApiError as error:
        if error.code not in EXISTS:
            raise
        # Its name is the only one that we may use: a read was broken off, by us or by a process before us.
        await _remove_consumer(bus, stream, name)
        answer = await jetstream.request(bus, operation, body)
    return int(answer["num_pending"]) + int(answer["delivered"]["consumer_seq"])


async def _remove_consumer(bus: connection.Bus, stream: Stream, name: str) -> None:
    """Best effort: an abandoned consumer is removed by the server after its inactive_threshold."""
    if bus.grant and not permissions.may_publish(
        bus.grant, f"{bus.api}.CONSUMER.DELETE.{stream.name}.{name}"
    ):
        return
    with contextlib.suppress(nats.errors.Error, jetstream.ApiError):
        await jetstream.request(bus, f"CONSUMER.DELETE.{stream.name}.{name}", {})


async def _unsubscribe(subscription: Subscription) -> None:
    with contextlib.suppress(nats.errors.Error):
        await subscription.unsubscribe()


class Follower:
    """Follows `filters` of a stream for ever. One reader: `async for batch in follower.batches()`."""

    def __init__(self, bus: connection.Bus, stream: Stream, filters: Sequence[str]) -> None:
        self._bus = bus
        self._stream = stream
        self._filters = tuple(filters)
        self._waiting: deque[tuple[int, Stored]] = deque()
        self._complete_to: list[int] = [0] * len(self._filters)
        self._arrived = asyncio.Event()
        self._reread = True

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """First all there is, then what changes; all there is again after each interruption."""
        forget = self._bus.on_interruption(self._interrupted)
        live = [await self._subscribe(number, one) for number, one in enumerate(self._filters)]
        checking = asyncio.create_task(self._check_for_ever())
        try:
            while True:
                if self._reread:
                    self._reread = False
                    self._waiting.clear()
                    messages = await self._read()
                    yield Batch(replaced=True, messages=messages)
                    # Not kept until the next one comes: it may be all there is.
                    del messages
                await self._arrived.wait()
                self._arrived.clear()
                if not self._reread and (news := self._drain()):
                    yield Batch(replaced=False, messages=news)
                    del news
        finally:
            checking.cancel()
            forget()
            for subscription in live:
                await _unsubscribe(subscription)

    async def _subscribe(self, number: int, filter_: str) -> Subscription:
        async def take(message: Msg) -> None:
            if len(self._waiting) >= QUEUE_LIMIT:
                self._interrupted()
            elif is_republished(message):
                self._waiting.append((number, _from_live(message)))
                self._arrived.set()

        return await self._bus.subscribe(
            subjects.live(filter_), cb=take, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def _read(self) -> tuple[Stored, ...]:
        found = await _read_all(self._bus, self._stream, [(one,) for one in self._filters])
        messages = [message for part, _ in found for message in part]
        messages.sort(key=lambda message: message.sequence)
        self._complete_to = [complete_to for _, complete_to in found]
        return tuple(messages)

    async def _check_for_ever(self) -> None:
        """Where a leader can die while we stay connected. Not for who may ask for nothing but its own
        consumers: a programmer checks its Commits instead.
        """
        while self._bus.clustered and not (self._bus.grant and self._bus.grant.consumers):
            await asyncio.sleep(CHECK_S)
            with contextlib.suppress(nats.errors.Error, jetstream.ApiError):
                heads = [await _head(self._bus, self._stream, one) for one in self._filters]
                await asyncio.sleep(GRACE_S)
                if not self._waiting and any(map(operator.gt, heads, self._complete_to)):
                    log.warning("stream.missed", extra={"fields": {"stream": self._stream.name}})
                    self._interrupted()

    def _drain(self) -> tuple[Stored, ...]:
        """Up to MAX_BATCH waiting messages, without those that the read has passed already."""
        news = []
        for _ in range(min(len(self._waiting), MAX_BATCH)):
            number, message = self._waiting.popleft()
            if message.sequence > self._complete_to[number]:
                self._complete_to[number] = message.sequence
                news.append(message)
        if self._waiting:
            self._arrived.set()
        return tuple(news)

    def _interrupted(self) -> None:
        self._reread = True
        self._arrived.set()


async def answered(bus: connection.Bus, message: Msg) -> bool:
    """Was it nothing but a consumer's flow control, or a heartbeat? The former has its answer now."""
    headers = message.headers or {}
    if headers.get("Status") != "100":
        return False
    if reply := message.reply or headers.get("Nats-Consumer-Stalled"):
        await bus.publish(reply)
    return True


def is_republished(message: Msg) -> bool:
    """Did the server republish it from a stream, or has somebody had an answer sent there? NATS lets whoever
    may ask anything choose the subject of the answer; these headers only the server can set.
    """
    headers = message.headers or {}
    return headers.get("Nats-Subject") == subjects.stored(message.subject)


def _from_live(message: Msg) -> Stored:
    headers = message.headers or {}
    return Stored(
        subjects.stored(message.subject), message.data, int(headers.get("Nats-Sequence", "0")), headers
    )
