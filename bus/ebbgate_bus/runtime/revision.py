"""A revision as JetStream's atomic batch: stored whole or refused whole, fenced on its last message.

The last message of a batch carries what its sender believes to be the last sequence of that subject
(`plan.writer`, `fact.writer`); if another process has written since, the server refuses the batch and nothing
of it is stored. Rows fenced one by one were measured not to be enough: two writers can interleave before
either commits.

What needn't be stored together with anything else may go alone, one under way at a time, fenced on the
writer without rewriting it: nothing is stored like this after another's claim (`tests/bus/test_fences.py`, on
one and on three replicas). A single server puts each batch into files of its own first, with three fsyncs.
"""

import asyncio
import json
import os
from collections.abc import Sequence

import msgspec
import nats.errors
from nats.aio.msg import Msg

from ebbgate_bus.contracts import codec, rows, streams
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_bus.runtime import connection, follower

ACK_TIMEOUT_S = 10.0
"""An open batch is abandoned by the server after 10 s."""
WRONG_LAST_SEQUENCE = (10071, 10164)
"""Another has written; another is just writing (replicated streams only)."""


class Fenced(Exception):
    """Another writer was faster: nothing was stored, and what is known of the stream is out of date."""


class Refused(Exception):
    """The server will not take this batch, for the reason given: nothing was stored."""


class Unanswered(Exception):
    """No answer: the batch was stored whole, or not at all. Read the stream again to know."""


class Claim(msgspec.Struct, frozen=True):
    """`sequence`: of the writer's message, as stored by this claim."""

    epoch: int
    revision: int
    sequence: int


async def claim(bus: connection.Bus, stream: streams.Stream, subject: str) -> Claim:
    """Become the one who writes `stream`, whose writer stands under `subject`: the next batch of any other is
    refused. Raises Fenced if another one claims at the same time, Unanswered, Refused.
    """
    before = await follower.read(bus, stream, [subject])
    sequence = before[-1].sequence if before else 0
    known = _writer(before[-1]) if before else rows.Writer(epoch=0, revision=0)
    mine = rows.Writer(epoch=known.epoch + 1, revision=known.revision)
    sequence = await publish(bus, [Outgoing(subject, codec.encode(mine))], expected_sequence=sequence)
    return Claim(mine.epoch, mine.revision, sequence)


def _writer(message: Stored) -> rows.Writer:
    """One that can't be read counts as the first, since its sequence is what fences."""
    try:
        decoded = codec.decode(message.subject, message.payload)
    except codec.Undecodable:
        return rows.Writer(epoch=0, revision=0)
    return decoded if isinstance(decoded, rows.Writer) else rows.Writer(epoch=0, revision=0)


async def publish(bus: connection.Bus, batch: Sequence[Outgoing], *, expected_sequence: int) -> int:
    """Store `batch` if the last sequence of its last message's subject is `expected_sequence`; the new one.

    Raises Fenced, Refused, Unanswered.
    """
    if len(batch) > streams.MAX_BATCH:
        raise Refused(f"{len(batch)} messages, and a batch holds {streams.MAX_BATCH}")
    if (largest := max(len(message.payload) for message in batch)) > bus.max_payload:
        raise Refused(f"a message of {largest} bytes, and the server takes {bus.max_payload}")
    batch_id = os.urandom(8).hex()
    last = len(batch) - 1
    try:
        for number, message in enumerate(batch[:last], start=1):
            await bus.publish(message.subject, message.payload, headers=_headers(message, batch_id, number))
        headers = _headers(batch[last], batch_id, last + 1)
        headers |= {"Nats-Batch-Commit": "1", "Nats-Expected-Last-Subject-Sequence": str(expected_sequence)}
        reply = await _ask(bus, Outgoing(batch[last].subject, batch[last].payload, headers))
    except nats.errors.Error as error:
        raise Unanswered(str(error) or repr(error)) from error
    return _sequence_of(reply.data)


async def publish_alone(
    bus: connection.Bus, message: Outgoing, *, writer: str, expected_sequence: int
) -> None:
    """Store `message` if the last sequence of the subject `writer` is `expected_sequence`. One at a time.

    Raises Fenced, Refused, Unanswered.
    """
    if len(message.payload) > bus.max_payload:
        raise Refused(f"a message of {len(message.payload)} bytes, and the server takes {bus.max_payload}")
    fence = {
        "Nats-Expected-Last-Subject-Sequence": str(expected_sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": writer,
    }
    try:
        reply = await _ask(bus, Outgoing(message.subject, message.payload, message.headers | fence))
    except nats.errors.Error as error:
        raise Unanswered(str(error) or repr(error)) from error
    _sequence_of(reply.data)


async def _ask(bus: connection.Bus, message: Outgoing) -> Msg:
    """The answer to `message`; an interruption of the bus has taken it along, and isn't waited out."""
    asking = asyncio.ensure_future(
        bus.request(message.subject, message.payload, headers=message.headers, timeout=ACK_TIMEOUT_S)
    )
    forget = bus.on_interruption(lambda: _cancel(asking))
    try:
        return await asking
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():  # not the answer is given up, but we are
            raise
        raise Unanswered("the connection broke") from None
    finally:
        forget()
        asking.cancel()


def _cancel(asking: asyncio.Future[Msg]) -> None:
    asking.cancel()


def _headers(message: Outgoing, batch_id: str, number: int) -> dict[str, str]:
    return message.headers | {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}


def _sequence_of(ack: bytes) -> int:
    answer = json.loads(ack)
    error = answer.get("error")
    if not error:
        return int(answer["seq"])
    if error.get("err_code") in WRONG_LAST_SEQUENCE:
        raise Fenced(error["description"])
    if error.get("code") == 503:
        raise Unanswered(error["description"])
    raise Refused(error["description"])
