"""A fact older than what is known, delivered late or twice, changes nothing: sequences tell."""

import asyncio

from ebbgate_bus.contracts import codec, facts, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, follower, publisher

SUBJECT = subjects.fact("namespace", "a")


def _fact(value: str) -> Outgoing:
    return Outgoing(SUBJECT, codec.encode(facts.Namespace(name="a", labels={"v": value})))


async def test_a_late_copy_of_an_older_fact_is_not_handed_on(bus: connection.Bus) -> None:
    send = publisher.Publisher(bus)
    await send.start()
    await send.publish([_fact("1")])
    await send.publish([_fact("2")])
    following = follower.Follower(bus, streams.FACT, [f"{subjects.ROOT}.fact.>"]).batches()
    first = await anext(following)
    # A replica may have been behind, and then sent both.
    last = first.messages[-1]
    assert codec.decode(last.subject, last.payload) == facts.Namespace(name="a", labels={"v": "2"})
    # What the server would send if it repeated itself: the first fact, live, under its old sequence.
    stale = _fact("1").payload
    headers = {"Nats-Sequence": "1", "Nats-Stream": streams.FACT.name, "Nats-Subject": SUBJECT}
    await bus.publish(subjects.live(SUBJECT), stale, headers=headers)
    await bus.flush()
    await send.publish([_fact("3")])
    async with asyncio.timeout(5):
        batch = await anext(following)
    assert [m.sequence for m in batch.messages] == [3]
    await following.aclose()
