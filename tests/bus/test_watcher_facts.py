"""FACT as the watcher writes it, on the real nats-server: fenced, whole, not held up by one bad fact."""

import json
import logging
from typing import Any

import pytest

from ebbgate_bus.contracts import codec, facts, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, follower, revision
from ebbgate_watcher.core import inputs, mirror
from ebbgate_watcher.io import bus as bus_
from ebbgate_watcher.io import tally


def namespace(name: str, payload: bytes = b"") -> Outgoing:
    return Outgoing(subjects.fact("namespace", name), payload or codec.encode(facts.Namespace(name=name)))


async def writer(bus: connection.Bus) -> bus_.Facts:
    written = bus_.Facts(bus, facts.KINDS, tally.Tally())
    await written.start()
    return written


async def stored(bus: connection.Bus) -> dict[str, bytes]:
    found = await follower.read(bus, streams.FACT, [f"{subjects.ROOT}.fact.>"])
    return {message.subject: message.payload for message in found}


async def test_who_was_overtaken_writes_nothing_and_is_told(bus: connection.Bus, server: Any) -> None:
    other_bus = await connection.connect(server.url, name="other")
    first, second = await writer(bus), await writer(other_bus)
    await first.claim()
    await first.carry_out([inputs.Publish((namespace("a"),))])
    published = await second.claim()
    assert [message.subject for message in published.messages] == [
        subjects.fact("namespace", "a"),
        subjects.FACT_WRITER,
    ]
    for count in (1, bus_.FEW, bus_.FEW + 1, mirror.BATCH):
        with pytest.raises(revision.Fenced):
            await first.carry_out([inputs.Publish(tuple(namespace(f"n{n}") for n in range(count)))])
    await second.carry_out([inputs.Publish((namespace("d"),))])
    held = await stored(bus)
    assert held.keys() == {
        subjects.FACT_WRITER,
        subjects.fact("namespace", "a"),
        subjects.fact("namespace", "d"),
    }
    assert codec.decode(subjects.FACT_WRITER, held[subjects.FACT_WRITER]) == rows.Writer(epoch=2, revision=0)
    await other_bus.close()


async def test_who_has_not_claimed_writes_nothing(bus: connection.Bus) -> None:
    idle = await writer(bus)
    with pytest.raises(revision.Unanswered):
        await idle.carry_out([inputs.Publish((namespace("a"),))])
    await idle.claim()
    idle.let_go()
    assert not idle.claimed
    with pytest.raises(revision.Unanswered):
        await idle.carry_out([inputs.Publish((namespace("a"),))])
    assert (await stored(bus)).keys() == {subjects.FACT_WRITER}


async def test_a_full_batch_fits_with_its_writer(bus: connection.Bus) -> None:
    one = await writer(bus)
    await one.claim()
    await one.carry_out([inputs.Publish(tuple(namespace(f"n{n}") for n in range(mirror.BATCH)))])
    assert len(await stored(bus)) == streams.MAX_BATCH


async def test_a_fact_that_can_never_be_stored_is_named_and_the_others_are_stored(
    bus: connection.Bus, caplog: pytest.LogCaptureFixture
) -> None:
    one = await writer(bus)
    await one.claim()
    messages = [namespace(f"n{n}") for n in range(9)] + [namespace("huge", b"x" * (bus.max_payload + 1))]
    with caplog.at_level(logging.ERROR):
        await one.carry_out([inputs.Publish(tuple(messages))])
    (line,) = [each for each in caplog.records if each.message == "fact.refused"]
    assert json.loads(json.dumps(line.fields))["subject"] == subjects.fact("namespace", "huge")  # type: ignore[attr-defined]
    assert len(await stored(bus)) == 10


async def test_what_lost_its_writer_is_discarded_wherever_it_is(bus: connection.Bus) -> None:
    one = await writer(bus)
    gone = [mirror.tombstone(subjects.fact("nodenetwork", "n")), mirror.tombstone(subjects.status("n"))]
    await one.carry_out([inputs.Discard(tuple(gone))])
    found = await follower.read(bus, streams.STATUS, [f"{subjects.ROOT}.status.>"])
    assert [(message.subject, message.payload) for message in found] == [(subjects.status("n"), b"")]
    assert subjects.fact("nodenetwork", "n") in await stored(bus)
