"""The bus as the watcher uses it: what is stored, what the mirror wants stored, what nodes report.

FACT has one writer. Each batch says so in its last message, fenced on the one before, and a few facts are
each fenced on it, so that a watcher that isn't the writer any more, and may not have noticed, writes nothing.
Here is also where each fact gets its trace (`spans`), since every event begins one. Nothing is decided here.
"""

import logging
from collections.abc import Sequence

from ebbgate_bus.contracts import codec, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, follower, publisher, revision
from ebbgate_watcher.core import inputs
from ebbgate_watcher.io import sources, spans, tally

NODE_NETWORKS = f"{subjects.ROOT}.fact.nodenetwork.>"
STATUS = f"{subjects.ROOT}.status.>"
VERDICTS = f"{subjects.ROOT}.verdict.>"
FEW = 8
"""So many facts go one after the other: 0.1 ms each, where a batch takes 3.6 ms on a single server."""
LOSSES = (revision.Fenced, revision.Unanswered)
"""After these it isn't known what FACT holds, nor who writes it."""

log = logging.getLogger(__name__)


async def follow_node_networks(bus: connection.Bus, deliver: sources.Deliver) -> None:
    await _follow(bus, streams.FACT, NODE_NETWORKS, "fact.nodenetwork", deliver)


async def follow_status(bus: connection.Bus, deliver: sources.Deliver) -> None:
    await _follow(bus, streams.STATUS, STATUS, "status", deliver)


async def follow_verdicts(bus: connection.Bus, deliver: sources.Deliver) -> None:
    await _follow(bus, streams.STATUS, VERDICTS, "verdict", deliver)


async def _follow(
    bus: connection.Bus, stream: streams.Stream, filter_: str, kind: str, deliver: sources.Deliver
) -> None:
    async for batch in follower.Follower(bus, stream, [filter_]).batches():
        await deliver([inputs.Reported(kind, batch.replaced, batch.messages)])


class Facts:
    """FACT, as the stream that one watcher writes. `claimed`: that is us, as far as we know."""

    def __init__(self, bus: connection.Bus, kinds: Sequence[str], counts: tally.Tally) -> None:
        self._bus = bus
        self._kinds = tuple(kinds)
        self._counts = counts
        self._claim: revision.Claim | None = None
        self._discards = publisher.Publisher(bus)

    async def start(self) -> None:
        await self._discards.start()

    @property
    def claimed(self) -> bool:
        return self._claim is not None

    def let_go(self) -> None:
        """Write nothing before the next claim."""
        self._claim = None

    async def claim(self) -> inputs.Published:
        """Become the writer, and read all there is of the mirror's kinds. Waits for the bus as long as it
        takes. Raises one of LOSSES, revision.Refused.
        """
        claim = await revision.claim(self._bus, streams.FACT, subjects.FACT_WRITER)
        filters = [f"{subjects.ROOT}.fact.{kind}.>" for kind in self._kinds]
        filters += [f"{subjects.ROOT}.synced.>", subjects.FACT_WRITER]
        # Up to the claim: what the one before us stored last must not be missed.
        stored = await follower.read(self._bus, streams.FACT, filters, headers=False, up_to=claim.sequence)
        self._claim = claim
        log.info("facts.claimed", extra={"fields": {"epoch": claim.epoch, "facts": len(stored)}})
        return inputs.Published(tuple(stored))

    async def carry_out(self, outputs: Sequence[inputs.Output]) -> None:
        """Do as the mirror says, in its order; returns when all is stored. Raises one of LOSSES."""
        for output in outputs:
            match output:
                case inputs.Remark():
                    level = logging.WARNING if output.trouble else logging.INFO
                    log.log(level, output.event, extra={"fields": output.fields})
                case inputs.Publish():
                    await self._publish(output.messages)
                    self._note(output.messages)
                case inputs.Discard():
                    await self._discards.publish(output.messages)

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        """What can never be stored is said, and left out: the rest of its batch isn't to blame."""
        try:
            await self._store(messages)
        except revision.Refused as error:
            if len(messages) == 1:
                fields = {"subject": messages[0].subject, "reason": str(error)}
                log.error("fact.refused", extra={"fields": fields})
                return
            half = len(messages) // 2
            await self._publish(messages[:half])
            await self._publish(messages[half:])

    async def _store(self, messages: Sequence[Outgoing]) -> None:
        claim = self._claim
        if claim is None:
            raise revision.Unanswered("the bus was away")
        told = spans.Facts(messages, self._counts)
        batch = told.messages
        if len(batch) <= FEW:
            for message in batch:
                await revision.publish_alone(
                    self._bus, message, writer=subjects.FACT_WRITER, expected_sequence=claim.sequence
                )
                told.stored([message])
            return
        number = claim.revision + 1
        writer = codec.encode(rows.Writer(epoch=claim.epoch, revision=number))
        fence = Outgoing(subjects.FACT_WRITER, writer)
        sequence = await revision.publish(self._bus, [*batch, fence], expected_sequence=claim.sequence)
        told.stored(batch)
        if self._claim is claim:  # else an interruption of the bus came meanwhile
            self._claim = revision.Claim(claim.epoch, number, sequence)

    def _note(self, messages: Sequence[Outgoing]) -> None:
        self._counts.stored(messages)
        for message in messages:
            name = subjects.parse(message.subject) if ".synced." in message.subject else None
            if name:
                log.info("kind.synced", extra={"fields": {"kind": name.ids[0]}})
