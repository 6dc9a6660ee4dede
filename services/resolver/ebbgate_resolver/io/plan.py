"""PLAN, as the stream that the resolver alone writes: claimed, read, and extended by fenced batches."""

import msgspec

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import connection, follower, revision


class Claim(msgspec.Struct, frozen=True):
    """What was read right after this process became the writer. `sequence`: of `plan.writer`."""

    epoch: int
    sequence: int
    rows: tuple[Stored, ...]


async def claim(bus: connection.Bus) -> Claim:
    """Become PLAN's writer and read it. Any other writer's next batch is refused from now on.

    Raises revision.Fenced if another one claims at the same time, revision.Unanswered, revision.Refused.
    """
    mine = await revision.claim(bus, streams.PLAN, subjects.WRITER)
    # Up to the claim: what the one before us stored last must not be missed.
    stored = await follower.read(bus, streams.PLAN, [f"{subjects.ROOT}.plan.>"], up_to=mine.sequence)
    return Claim(mine.epoch, mine.sequence, tuple(stored))
