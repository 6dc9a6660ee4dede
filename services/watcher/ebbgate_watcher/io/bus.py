"""The bus as the watcher uses it: what is stored, what the mirror wants stored, what nodes report.

It adds the trace of each fact, since every event begins one, and decides nothing.
"""

import logging
from collections.abc import Sequence

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, follower, publisher, tracing
from ebbgate_watcher.core import inputs
from ebbgate_watcher.io import sources

NODE_NETWORKS = f"{subjects.ROOT}.fact.nodenetwork.>"
STATUS = f"{subjects.ROOT}.status.>"

log = logging.getLogger(__name__)


async def read_published(bus: connection.Bus, kinds: Sequence[str]) -> inputs.Published:
    """All that FACT holds of `kinds`, and which are synced. Waits for the bus as long as it takes."""
    filters = [f"{subjects.ROOT}.fact.{kind}.>" for kind in kinds] + [f"{subjects.ROOT}.synced.>"]
    return inputs.Published(tuple(await follower.read(bus, streams.FACT, filters)))


async def follow_node_networks(bus: connection.Bus, deliver: sources.Deliver) -> None:
    await _follow(bus, streams.FACT, NODE_NETWORKS, "fact.nodenetwork", deliver)


async def follow_status(bus: connection.Bus, deliver: sources.Deliver) -> None:
    await _follow(bus, streams.STATUS, STATUS, "status", deliver)


async def _follow(
    bus: connection.Bus, stream: streams.Stream, filter_: str, kind: str, deliver: sources.Deliver
) -> None:
    async for batch in follower.Follower(bus, stream, [filter_]).batches():
        await deliver([inputs.Reported(kind, batch.replaced, batch.messages)])


async def carry_out(outputs: Sequence[inputs.Output], pipeline: publisher.Publisher) -> None:
    """Do as the mirror says, in its order; returns when all is stored."""
    for output in outputs:
        match output:
            case inputs.Remark():
                level = logging.WARNING if output.trouble else logging.INFO
                log.log(level, output.event, extra={"fields": output.fields})
            case inputs.Publish():
                await _publish(output.messages, pipeline)


async def _publish(messages: Sequence[Outgoing], pipeline: publisher.Publisher) -> None:
    traced = [Outgoing(each.subject, each.payload, each.headers | tracing.new()) for each in messages]
    try:
        await pipeline.publish(traced)
    except publisher.Refused as error:
        # Only what can never be stored (too large): the others are, and stay what they are.
        for message, reason in error.refusals:
            log.error("fact.refused", extra={"fields": {"subject": message.subject, "reason": reason}})
    for message in messages:
        name = subjects.parse(message.subject)
        if name and name.kind == "synced":
            log.info("kind.synced", extra={"fields": {"kind": name.ids[0]}})
