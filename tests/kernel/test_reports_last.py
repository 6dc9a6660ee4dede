"""What a node says of itself stays on the bus, whoever removes it."""

import asyncio

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.runtime import connection, follower
from tests.kernel import rig as rigs


async def test_reports_that_were_removed_are_said_again(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        rig.start("node2")
        await rigs.applied(bus, "node2", await plan.scenario())
        said = {}
        for stream, subject in (
            (streams.STATUS, subjects.status("node2")),
            (streams.FACT, subjects.fact("nodenetwork", "node2")),
        ):
            said[subject] = await _stored(bus, stream, subject)
            await bus.request(subject, b"", headers={"Nats-TTL": "1h"})
        for stream, subject in (
            (streams.STATUS, subjects.status("node2")),
            (streams.FACT, subjects.fact("nodenetwork", "node2")),
        ):
            async with asyncio.timeout(rigs.DEADLINE_S):
                while not (again := await _stored(bus, stream, subject)):
                    await asyncio.sleep(0.01)
            assert again.partition(b'"took_ms"')[0] == said[subject].partition(b'"took_ms"')[0]


async def _stored(bus: connection.Bus, stream: streams.Stream, subject: str) -> bytes:
    return b"".join(message.payload for message in await follower.read(bus, stream, [subject]))
