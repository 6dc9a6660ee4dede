"""The watcher as a process, on a directory of manifests and the real nats-server."""

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator, Callable

import pytest
from nats.aio.msg import Msg

from ebbgate_bus.contracts import codec, envelope, facts, reports, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_bus.runtime import connection, follower, publisher
from ebbgate_lab import processes

from .conftest import Server

WITHIN_S = 15.0
COUNT = 1000
NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\n"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, uid: u-1, labels: {app: %s}}
spec: {nodeName: node1}
status: {phase: Running, podIP: 10.0.0.1}
"""
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: {name: p}
spec: {b: 1, a: 2}
"""


class World:
    """A directory, a watcher on it, and a look into FACT."""

    def __init__(self, folder: pathlib.Path, server: Server, bus: connection.Bus) -> None:
        self.folder = folder / "manifests"
        self.folder.mkdir()
        self.bus = bus
        arguments = ["--nats", server.url, "--source", "directory", "--path", str(self.folder), "--name", "w"]
        self.watcher = processes.Process(
            "watcher", processes.module("ebbgate_watcher", *arguments), log=folder / "watcher.log"
        )

    def write(self, name: str, text: str) -> None:
        unfinished = self.folder / f".{name}.new"
        unfinished.write_text(text)
        unfinished.rename(self.folder / name)

    async def facts(self) -> dict[str, Stored]:
        filters = [f"{subjects.ROOT}.fact.>", f"{subjects.ROOT}.synced.>"]
        found = {message.subject: message for message in await follower.read(self.bus, streams.FACT, filters)}
        found.pop(subjects.FACT_WRITER, None)
        return found

    async def until(self, holds: Callable[[dict[str, Stored]], bool]) -> dict[str, Stored]:
        async with asyncio.timeout(WITHIN_S):
            while not holds(stored := await self.facts()):
                await asyncio.sleep(0.02)
        return stored

    async def until_synced(self) -> dict[str, Stored]:
        await self.until(lambda now: all(subjects.synced(kind) in now for kind in facts.KINDS))
        return await self.facts()  # anew: the facts may have been read before the last of them came

    def events(self, event: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.watcher.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def until_logged(self, event: str, count: int = 1) -> list[dict[str, object]]:
        async with asyncio.timeout(WITHIN_S):
            while len(found := self.events(event)) < count:
                await asyncio.sleep(0.02)
        return found


@pytest.fixture
async def world(tmp_path: pathlib.Path, server: Server, bus: connection.Bus) -> AsyncIterator[World]:
    world = World(tmp_path, server, bus)
    world.write("a.yaml", NODE + "---" + POD % "one")
    world.write("b.yaml", POLICY)
    world.watcher.start()
    yield world
    world.watcher.stop()


POD_FACT = subjects.fact("pod", "shop", "web")
NODE_FACT = subjects.fact("node", "node1")
POLICY_FACT = subjects.fact("policy", "p")


async def test_facts_come_before_their_synced_and_carry_time_and_trace(world: World) -> None:
    stored = await world.until_synced()
    assert stored[POD_FACT].sequence < stored[subjects.synced("pod")].sequence
    headers = stored[POD_FACT].headers
    assert int(headers[envelope.SEEN]) > 1_700_000_000 * 10**9
    assert envelope.trace_id(headers)
    assert b'"spec":{"a":2,"b":1}' in stored[POLICY_FACT].payload


async def test_files_added_changed_and_removed_are_followed(world: World) -> None:
    await world.until_synced()
    world.write("c.json", json.dumps({"kind": "Namespace", "metadata": {"name": "shop"}}))
    await world.until(lambda stored: subjects.fact("namespace", "shop") in stored)
    world.write("a.yaml", NODE + "---" + POD % "two")
    await world.until(lambda stored: b"two" in stored[POD_FACT].payload)
    (world.folder / "b.yaml").unlink()
    stored = await world.until(lambda stored: not stored[POLICY_FACT].payload)
    assert stored[POLICY_FACT].headers[envelope.TTL] == streams.TOMBSTONE_TTL
    assert stored[NODE_FACT].payload


async def test_a_broken_file_keeps_its_objects_and_says_so_once(world: World) -> None:
    await world.until_synced()
    world.write("a.yaml", "kind: [")
    (line,) = await world.until_logged("source.broken")
    assert line["origin"] == "a.yaml"
    world.write("d.yaml", NODE.replace("node1", "node2"))
    stored = await world.until(lambda stored: subjects.fact("node", "node2") in stored)
    assert stored[POD_FACT].payload
    assert len(world.events("source.broken")) == 1
    world.write("a.yaml", NODE)
    await world.until(lambda stored: not stored[POD_FACT].payload)
    assert world.events("source.recovered")


async def test_of_an_object_in_two_files_the_first_file_wins(world: World) -> None:
    await world.until_synced()
    world.write("z.yaml", POD % "other")
    (line,) = await world.until_logged("source.broken")
    assert line["origin"] == "z.yaml"
    assert "a.yaml" in str(line["reason"])
    assert b"other" not in (await world.facts())[POD_FACT].payload
    (world.folder / "a.yaml").unlink()
    await world.until(lambda stored: b"other" in stored[POD_FACT].payload)


async def test_a_file_being_written_does_not_take_its_objects_away(world: World) -> None:
    await world.until_synced()
    before = (await world.facts())[POD_FACT]
    (world.folder / "a.yaml").write_text("")
    world.write("d.yaml", NODE.replace("node1", "node2"))
    await world.until(lambda stored: subjects.fact("node", "node2") in stored)
    (world.folder / "a.yaml").write_text(NODE + "---" + POD % "one")
    world.write("e.yaml", NODE.replace("node1", "node3"))
    stored = await world.until(lambda stored: subjects.fact("node", "node3") in stored)
    assert stored[POD_FACT].sequence == before.sequence


async def test_a_restart_in_an_unchanged_world_publishes_nothing(world: World) -> None:
    before = await world.until_synced()
    world.watcher.kill()
    world.watcher.start()
    world.write("z.yaml", NODE.replace("node1", "node2"))
    after = await world.until(lambda stored: subjects.fact("node", "node2") in stored)
    new = {subject for subject in after if after[subject] != before.get(subject)}
    assert new == {subjects.fact("node", "node2")}


async def test_what_vanished_while_the_watcher_was_down_is_gone(world: World) -> None:
    await world.until_synced()
    world.watcher.kill()
    (world.folder / "b.yaml").unlink()
    world.watcher.start()
    await world.until(lambda stored: not stored[POLICY_FACT].payload)


async def test_changes_while_nats_is_down_arrive_when_it_is_back(world: World, server: Server) -> None:
    await world.until_synced()
    server.kill()
    world.write("a.yaml", NODE + "---" + POD % "two")
    (world.folder / "b.yaml").unlink()
    await world.until_logged("bus.disconnected")
    server.start()
    await world.until(lambda stored: b"two" in stored[POD_FACT].payload and not stored[POLICY_FACT].payload)


async def test_a_bus_that_lost_its_data_is_filled_again(world: World) -> None:
    await world.until_synced()
    world.watcher.stop()
    await world.bus.request(f"$JS.API.STREAM.PURGE.{streams.FACT.name}", b"")
    world.watcher.start()
    stored = await world.until_synced()
    assert stored[POD_FACT].payload


async def test_of_pods_whose_files_follow_one_another_there_is_always_one(world: World) -> None:
    """Each comes before the last one goes, also while the watcher lists the directory."""
    await world.until_synced()
    held: dict[str, bytes] = {}
    gaps: list[str] = []

    async def heard(message: Msg) -> None:
        held[message.subject] = message.data
        if not any(held.values()):
            gaps.append(message.subject)

    def name(number: int) -> str:
        return f"pod-{number}.yaml"

    await world.bus.subscribe(subjects.live(f"{subjects.ROOT}.fact.pod.shop.>"), cb=heard)
    for number in range(COUNT):
        world.write(name(number), (POD % "one").replace("web", f"web-{number}").replace("u-1", f"u-{number}"))
        (world.folder / name(number - 1)).unlink(missing_ok=True)
        await asyncio.sleep(0.001)
    await world.until(lambda stored: bool(stored.get(subjects.fact("pod", "shop", f"web-{COUNT - 1}"))))
    assert held
    assert not gaps


async def test_reports_of_nodes_that_exist_stay(world: World) -> None:
    await world.until_synced()
    pipeline = publisher.Publisher(world.bus)
    await pipeline.start()
    network = subjects.fact("nodenetwork", "node1")
    await pipeline.publish([Outgoing(network, b'{"node":"node1"}')])
    world.write("z.yaml", NODE.replace("node1", "node2"))
    stored = await world.until(lambda stored: subjects.fact("node", "node2") in stored)
    assert stored[network].payload


async def test_the_watcher_beats_and_stops_when_asked(world: World) -> None:
    world.watcher.stop()
    subject = subjects.beat("watcher", "w")
    heard = await world.bus.subscribe(subject)
    world.watcher.start()
    beats = []
    async with asyncio.timeout(WITHIN_S):
        while not beats or beats[-1].starting:
            beats.append(codec.decode_as(reports.Beat, subject, (await heard.next_msg(WITHIN_S)).data))
    assert beats[0].starting
    assert (beats[0].behind_s or 0) > 0
    assert beats[-1].behind_s is None  # of a directory nobody waits for statuses
    world.watcher.stop()
    assert world.events("service.stopped")
