"""The bus runtime on the real nats-server: killed, raced, joined late."""

import asyncio
import contextlib
import itertools
import threading
from typing import Any

import pytest

from ebbgate_bus.contracts import codec, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, follower, jetstream, publisher, revision, tracing

from .conftest import on_one

PLAN = [f"{subjects.ROOT}.plan.>"]
on_both = pytest.mark.parametrize("server", [1, 3], indirect=True, ids=["one", "three"])
"""On one server, and on a cluster of three of which the leader is killed where the test kills the server."""


def peer(number: int, address: str = "10.0.0.1") -> Outgoing:
    payload = codec.encode(rows.Peer(addresses=(address,)))
    return Outgoing(subjects.peer(f"node-{number}"), payload, tracing.headers())


async def started(bus: connection.Bus) -> publisher.Publisher:
    pub = publisher.Publisher(bus)
    await pub.start()
    return pub


@on_both
async def test_what_was_published_is_read_back_in_order(bus: connection.Bus) -> None:
    pub = await started(bus)
    sent = [peer(number) for number in range(3000)]
    await pub.publish(sent)
    got = await follower.read(bus, streams.PLAN, PLAN)
    assert [(m.subject, m.payload) for m in got] == [(m.subject, m.payload) for m in sent]
    assert got[0].headers["traceparent"] == sent[0].headers["traceparent"]


async def test_reading_an_empty_stream_ends_at_once(bus: connection.Bus) -> None:
    assert await follower.read(bus, streams.PLAN, PLAN) == []


@on_both
async def test_a_refused_message_is_named_and_the_others_are_stored(bus: connection.Bus) -> None:
    pub = await started(bus)
    bad = Outgoing(subjects.peer("bad"), b"{}", {"Nats-TTL": "nonsense"})
    with pytest.raises(publisher.Refused) as refused:
        await pub.publish([peer(1), bad, peer(2)])
    assert [message for message, _ in refused.value.refusals] == [bad]
    assert len(await follower.read(bus, streams.PLAN, PLAN)) == 2


@on_both
async def test_no_acknowledged_message_is_lost_when_the_server_is_killed_while_publishing(
    bus: connection.Bus, server: Any
) -> None:
    pub = await started(bus)
    acknowledged: list[Outgoing] = []

    async def publish_without_pause() -> None:
        for start in range(0, 6000, 50):
            part = [peer(number) for number in range(start, start + 50)]
            await pub.publish(part)
            acknowledged.extend(part)

    publishing = asyncio.create_task(publish_without_pause())
    for _ in range(2):
        seen = len(acknowledged)
        while len(acknowledged) < seen + 500:
            await asyncio.sleep(0.005)
        server.kill()
        server.start()
    await publishing
    stored = {m.subject: m.payload for m in await follower.read(bus, streams.PLAN, PLAN)}
    assert len(acknowledged) == 6000
    assert all(stored[message.subject] == message.payload for message in acknowledged)


@on_both
async def test_of_two_racing_writers_one_wins_each_round_and_nothing_is_mixed(
    bus: connection.Bus, server: Any
) -> None:
    other = await connection.connect(server.url, name="other")

    def batch(writer: str) -> list[Outgoing]:
        rows_ = [peer(number, writer) for number in range(20)]
        payload = codec.encode(rows.Writer(epoch=1, revision=1))
        return [*rows_, Outgoing(subjects.WRITER, payload)]

    sequence = 0
    for _ in range(50):
        results = await asyncio.gather(
            revision.publish(bus, batch("10.0.0.1"), expected_sequence=sequence),
            revision.publish(other, batch("10.0.0.2"), expected_sequence=sequence),
            return_exceptions=True,
        )
        won = [result for result in results if isinstance(result, int)]
        lost = [result for result in results if isinstance(result, revision.Fenced)]
        assert (len(won), len(lost)) == (1, 1), results
        sequence = won[0]
        stored = await follower.read(bus, streams.PLAN, [f"{subjects.ALL_SCOPE}.>"])
        assert len({message.payload for message in stored}) == 1
    await other.close()


async def test_a_batch_above_the_limit_is_refused_before_anything_is_sent(bus: connection.Bus) -> None:
    with pytest.raises(revision.Refused):
        await revision.publish(bus, [peer(n) for n in range(1001)], expected_sequence=0)
    assert await follower.read(bus, streams.PLAN, PLAN) == []


@on_both
async def test_a_follower_that_joins_under_churn_ends_with_what_the_stream_holds(bus: connection.Bus) -> None:
    pub = await started(bus)
    await pub.publish([peer(number) for number in range(500)])

    async def churn() -> None:
        for turn in range(60):
            for number in range(turn, 500, 25):
                await pub.publish([peer(number, f"10.1.{turn}.1")])
        await pub.publish([peer(999)])

    churning = asyncio.create_task(churn())
    state: dict[str, bytes] = {}
    async with contextlib.aclosing(follower.Follower(bus, streams.PLAN, PLAN).batches()) as batches:
        async for batch in batches:
            if batch.replaced:
                state.clear()
            state.update((message.subject, message.payload) for message in batch.messages)
            if subjects.peer("node-999") in state:
                break
    await churning
    assert state == {m.subject: m.payload for m in await follower.read(bus, streams.PLAN, PLAN)}


async def test_a_read_under_churn_has_all_that_is_there_all_the_time(
    bus: connection.Bus, server: Any
) -> None:
    """Of what is replaced while it is read the new version comes last, after what is new altogether."""
    always = [peer(number) for number in range(20_000)]
    await (await started(bus)).publish(always)
    over = threading.Event()

    async def churn() -> None:
        other = await connection.connect(server.url, name="other")
        pub = await started(other)
        for start in itertools.count(0, 20):
            if over.is_set():
                break
            numbers = range(start, start + 20)
            pairs = [(peer(20_000 + n), peer(7919 * n % 20_000, f"10.1.{n % 256}.1")) for n in numbers]
            await pub.publish(list(itertools.chain.from_iterable(pairs)))
        await other.close()

    churning = asyncio.create_task(asyncio.to_thread(asyncio.run, churn()))
    try:
        for _ in range(20):
            found = {message.subject for message in await follower.read(bus, streams.PLAN, PLAN)}
            assert not {message.subject for message in always} - found
    finally:
        over.set()
        await churning


@pytest.mark.parametrize("server", [3], indirect=True, ids=["three"])
async def test_what_was_stored_and_not_sent_on_is_found_in_time(
    bus: connection.Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a stream's leader dies between the two: here it is told for a moment to send nothing on."""
    monkeypatch.setattr(follower, "CHECK_S", 0.2)
    config = (await jetstream.request(bus, "STREAM.INFO.PLAN", {}))["config"]
    pub = await started(bus)
    await pub.publish([peer(1)])
    async with contextlib.aclosing(follower.Follower(bus, streams.PLAN, PLAN).batches()) as batches:
        assert len((await anext(batches)).messages) == 1
        silent = {name: value for name, value in config.items() if name != "republish"}
        await jetstream.request(bus, "STREAM.UPDATE.PLAN", silent)
        await pub.publish([peer(2)])
        await jetstream.request(bus, "STREAM.UPDATE.PLAN", config)
        again = await asyncio.wait_for(anext(batches), 20)
        assert again.replaced
        assert len(again.messages) == 2
        await pub.publish([peer(3)])
        assert len((await anext(batches)).messages) == 1


@on_one
async def test_a_follower_replaces_all_it_had_after_the_server_came_back(
    bus: connection.Bus, server: Any
) -> None:
    pub = await started(bus)
    await pub.publish([peer(1), peer(2)])
    async with contextlib.aclosing(follower.Follower(bus, streams.PLAN, PLAN).batches()) as batches:
        assert len((await anext(batches)).messages) == 2
        server.kill()
        server.start()
        again = await anext(batches)
        assert again.replaced
        assert len(again.messages) == 2


@on_both
async def test_a_refused_batch_is_never_seen_live(bus: connection.Bus) -> None:
    async with contextlib.aclosing(follower.Follower(bus, streams.PLAN, PLAN).batches()) as batches:
        assert (await anext(batches)).messages == ()
        writer = Outgoing(subjects.WRITER, codec.encode(rows.Writer(epoch=1, revision=1)))
        with pytest.raises(revision.Fenced):
            await revision.publish(bus, [peer(1), writer], expected_sequence=77)
        await revision.publish(bus, [peer(2), writer], expected_sequence=0)
        seen = (await anext(batches)).messages
        assert seen[0].subject == subjects.peer("node-2")


async def test_streams_are_made_again_when_the_server_lost_its_store(
    bus: connection.Bus, server: Any, tmp_path: Any
) -> None:
    pub = await started(bus)
    server.kill()
    for path in sorted((tmp_path / "jetstream").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    server.start()
    await pub.publish([peer(1)])
    answer = await jetstream.request(bus, "STREAM.INFO.PLAN", {})
    assert answer["state"]["messages"] == 1


async def test_connecting_waits_for_a_server_that_starts_later(server: Any) -> None:
    server.kill()
    waiting = asyncio.create_task(connection.connect(server.url, name="early"))
    await asyncio.sleep(0)
    server.start()
    bus = await asyncio.wait_for(waiting, 10)
    assert bus.is_connected
    await bus.close()


@on_both
async def test_a_batch_whose_answer_was_lost_with_the_connection_is_not_waited_for(
    bus: connection.Bus, server: Any
) -> None:
    writer = Outgoing(subjects.WRITER, codec.encode(rows.Writer(epoch=1, revision=1)))
    server.kill()
    publishing = asyncio.ensure_future(revision.publish(bus, [peer(1), writer], expected_sequence=0))
    server.start()
    async with asyncio.timeout(revision.ACK_TIMEOUT_S / 2):
        with pytest.raises(revision.Unanswered):
            await publishing


@pytest.mark.parametrize("server", [3], indirect=True, ids=["three"])
async def test_what_was_acknowledged_is_read_from_any_server_at_once(
    bus: connection.Bus, server: Any
) -> None:
    """A replica may be behind: who reads there and then listens live would never hear of what it lacked."""
    pub = await started(bus)
    buses = [await connection.connect(url, name="test") for url in server.url.split(",")]
    for round_ in range(60):
        crowd = [peer(1000 + number, f"10.9.{round_}.{number}") for number in range(200)]
        noise = asyncio.create_task(pub.publish(crowd))
        writer = await started(buses[round_ % 3])
        await writer.publish([peer(round_)])
        reader = follower.Follower(buses[(round_ + 1) % 3], streams.PLAN, [subjects.peer(f"node-{round_}")])
        async with contextlib.aclosing(reader.batches()) as batches:
            assert len((await anext(batches)).messages) == 1
        await noise
    for each in buses:
        await each.close()
