"""PLAN, as the stream that the resolver alone writes: claimed, read, and extended by fenced batches."""

import msgspec

from ebbgate_bus.contracts import codec, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_bus.runtime import connection, follower, revision, tracing


class Claim(msgspec.Struct, frozen=True):
    """What was read right after this process became the writer. `sequence`: of `plan.writer`."""

    epoch: int
    sequence: int
    rows: tuple[Stored, ...]


async def claim(bus: connection.Bus) -> Claim:
    """Become PLAN's writer and read it. Any other writer's next batch is refused from now on.

    Raises revision.Fenced if another one claims at the same time, revision.Unanswered, revision.Refused.
    """
    before = await follower.read(bus, streams.PLAN, [subjects.WRITER])
    sequence = before[-1].sequence if before else 0
    known = _writer(before[-1]) if before else rows.Writer(epoch=0, revision=0)
    mine = rows.Writer(epoch=known.epoch + 1, revision=known.revision)
    batch = [Outgoing(subjects.WRITER, codec.encode(mine), tracing.new())]
    sequence = await revision.publish(bus, batch, expected_sequence=sequence)
    stored = await follower.read(bus, streams.PLAN, [f"{subjects.ROOT}.plan.>"])
    return Claim(mine.epoch, sequence, tuple(stored))


def _writer(message: Stored) -> rows.Writer:
    """The writer row; one that can't be read counts as the first, since its sequence is what fences."""
    try:
        decoded = codec.decode(message.subject, message.payload)
    except codec.Undecodable:
        return rows.Writer(epoch=0, revision=0)
    return decoded if isinstance(decoded, rows.Writer) else rows.Writer(epoch=0, revision=0)
