"""The resolver's process on the real nats-server: it claims, resolves, restarts, stands by.

Each test starts the real program; facts and Applieds are published as watcher and programmers would.
"""

import asyncio
import contextlib
import pathlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import codec, facts, reports, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import connection, publisher
from ebbgate_lab import observer, processes

SPEC = msgspec.Raw(
    b'{"destinationCIDRs":["0.0.0.0/0"],"egressGateway":{"egressIP":"10.168.60.100","nodeSelector":{}},'
    b'"selectors":[{"podSelector":{}}]}'
)


def node(name: str, address: str) -> facts.Node:
    return facts.Node(name=name, internal_ips=(address,), addresses=(address,))


def network(name: str, *addresses: str) -> facts.NodeNetwork:
    eth0 = facts.Interface(name="eth0", index=2, addresses=addresses, default_route=("ipv4",))
    return facts.NodeNetwork(node=name, interfaces=(eth0,))


def pod(number: int) -> facts.Pod:
    return facts.Pod(
        namespace="default",
        name=f"pod-{number}",
        uid=f"uid-{number}",
        node="node1",
        ips=(f"10.244.1.{number}",),
        phase="Running",
    )


WORLD: dict[str, Message] = {
    subjects.fact("node", "node1"): node("node1", "10.168.60.11"),
    subjects.fact("node", "node2"): node("node2", "10.168.60.12"),
    subjects.fact("nodenetwork", "node2"): network("node2", "10.168.60.12/24", "10.168.60.100/24"),
    subjects.fact("policy", "sample"): facts.Policy(name="sample", uid="p1", generation=1, spec=SPEC),
    subjects.fact("pod", "default", "pod-1"): pod(1),
    **{subjects.synced(kind): facts.Synced(kind=kind) for kind in facts.KINDS},
}


class World:
    """A bus with facts on it, and resolvers to start."""

    def __init__(self, server: Any, bus: connection.Bus, folder: pathlib.Path) -> None:
        self.server, self.bus, self.folder = server, bus, folder
        self.watching = observer.Observer(bus)
        self._publisher = publisher.Publisher(bus)

    async def start(self) -> None:
        await self._publisher.start()
        self.watching.start()
        await self.publish(WORLD)

    async def publish(self, messages: dict[str, Message]) -> None:
        await self._publisher.publish([Outgoing(s, codec.encode(m)) for s, m in messages.items()])

    def resolver(self, name: str) -> processes.Process:
        command = [sys.executable, "-m", "ebbgate_resolver", "--nats", self.server.url, "--name", name]
        return processes.Process(name, command, log=self.folder / f"{name}.log")

    async def endpoints(self, count: int) -> None:
        prefix = f"{subjects.node_scope('node1')}.endpoint."
        await self.watching.until(lambda seen: len(seen.under(prefix)) == count, what=f"{count} endpoints")

    async def sequence(self) -> int:
        """The last sequence of PLAN: it grows with every message that is stored."""
        return int((await self.bus.jetstream().stream_info(streams.PLAN.name)).state.last_seq)


@pytest.fixture
async def world(server: Any, bus: connection.Bus, tmp_path: pathlib.Path) -> AsyncIterator[World]:
    world = World(server, bus, tmp_path)
    await world.start()
    yield world
    world.watching.stop()


@contextlib.contextmanager
def running(process: processes.Process) -> Any:
    process.start()
    try:
        yield process
    finally:
        process.stop()


def group_of(seen: observer.Observer) -> rows.Paths | None:
    group = seen.get(subjects.group("p1"), rows.Group)
    return group.ipv4 if group else None


async def test_a_path_opens_only_when_the_gateway_says_its_kernel_has_the_egress_ip(world: World) -> None:
    with running(world.resolver("r1")):
        await world.endpoints(1)
        prefix = f"{subjects.node_scope('node2')}.egress."
        await world.watching.until(lambda seen: len(seen.under(prefix)) == 1, what="the egress row")
        subject, egress = next(iter(world.watching.under(prefix).items()))
        slot = subject.rpartition(".")[2]
        assert isinstance(egress, rows.Egress)
        assert egress.egress_ip == "10.168.60.100"
        paths = group_of(world.watching)
        assert paths is None or all(path.slot == rows.NO_SLOT for path in paths.paths)
        applied = reports.Applied(node="node2", slots={slot: "10.168.60.100"})
        await world.publish({subjects.status("node2"): applied})
        await world.watching.until(
            lambda seen: bool(p := group_of(seen)) and [path.slot for path in p.paths] == [int(slot)],
            what="the path to open",
        )


async def test_a_restart_in_an_unchanged_world_writes_only_the_claim(world: World) -> None:
    with running(world.resolver("r1")):
        await world.endpoints(1)
    before = await world.sequence()
    with running(world.resolver("r2")):
        await world.watching.until(
            lambda seen: bool(w := seen.get(subjects.WRITER, rows.Writer)) and w.epoch == 2, what="the claim"
        )
        await world.publish({subjects.fact("pod", "default", "pod-2"): pod(2)})
        await world.endpoints(2)
    # The claim, then one revision: the endpoint, its node's Commit, the writer.
    assert await world.sequence() == before + 4


async def test_what_changed_while_no_resolver_ran_is_caught_up(world: World) -> None:
    with running(world.resolver("r1")):
        await world.endpoints(1)
    await world.publish({subjects.fact("pod", "default", f"pod-{n}"): pod(n) for n in (2, 3)})
    await world.publish(
        {subjects.fact("pod", "default", "pod-1"): facts.Pod(namespace="default", name="pod-1", uid="uid-1")}
    )
    with running(world.resolver("r2")):
        await world.endpoints(2)


async def test_of_two_resolvers_one_writes_and_the_other_takes_over(world: World) -> None:
    first, second = world.resolver("r1"), world.resolver("r2")
    with running(first):
        await world.endpoints(1)
        with running(second):
            await world.watching.until(
                lambda seen: bool(w := seen.get(subjects.WRITER, rows.Writer)) and w.epoch == 2,
                what="r2's claim",
            )
            await world.publish({subjects.fact("pod", "default", "pod-2"): pod(2)})
            await world.endpoints(2)
            second.kill()
            await world.publish({subjects.fact("pod", "default", "pod-3"): pod(3)})
            await world.endpoints(3)
    writer = world.watching.get(subjects.WRITER, rows.Writer)
    assert writer is not None
    assert writer.epoch == 3


async def test_it_goes_on_after_the_server_was_killed(world: World) -> None:
    with running(world.resolver("r1")):
        await world.endpoints(1)
        world.server.kill()
        world.server.start()
        await world.publish({subjects.fact("pod", "default", "pod-2"): pod(2)})
        await world.endpoints(2)


async def test_a_fact_that_cannot_be_read_is_told_once_and_stops_nobody(world: World) -> None:
    process = world.resolver("r1")
    with running(process):
        await world.endpoints(1)
        bad = Outgoing(subjects.fact("pod", "default", "bad"), b'{"v":9}')
        await world.bus.request(bad.subject, bad.payload)
        await world.publish({subjects.fact("pod", "default", "pod-2"): pod(2)})
        await world.endpoints(2)
    assert process.log.read_text().count("major version 9") == 1


async def test_nothing_is_removed_before_all_kinds_are_synced(world: World) -> None:
    with running(world.resolver("r1")):
        await world.endpoints(1)
    for kind in ("pod", "policy"):
        await world.bus.request(subjects.synced(kind), b"")
    await world.bus.request(subjects.fact("pod", "default", "pod-1"), b"")
    process = world.resolver("r2")
    with running(process):
        await world.publish({subjects.fact("pod", "default", "pod-2"): pod(2)})
        await world.endpoints(2)
        await world.publish({subjects.synced(kind): facts.Synced(kind=kind) for kind in facts.KINDS})
        await world.endpoints(1)
        await asyncio.sleep(0)
