"""The fence on one and on three real servers: what one writer stores while another claims, and then reads."""

import asyncio
import os
import pathlib
import random
import socket
from collections.abc import AsyncIterator

import pytest

from ebbgate_bus.contracts import codec, facts, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, follower, jetstream, revision
from ebbgate_lab import processes

ROUNDS = 1_500 if os.environ.get("EBBGATE_EXAMPLES") == "soak" else 60
WITHIN_S = 30.0
pytestmark = pytest.mark.timeout(600 if ROUNDS > 60 else 120)


class Servers:
    """A cluster of nats-servers, and a connection to each."""

    def __init__(self, folder: pathlib.Path, count: int) -> None:
        self._folder = folder
        self._ports = [(free_port(), free_port()) for _ in range(count)]
        self._processes = [self._process(number) for number in range(count)]
        self.buses: list[connection.Bus] = []

    def _process(self, number: int) -> processes.Process:
        port, routing = self._ports[number]
        routes = ", ".join(f'"nats-route://127.0.0.1:{each}"' for _, each in self._ports)
        listen = f'listen: "127.0.0.1:{routing}"'
        cluster = f"cluster {{ name: test, {listen}, routes: [{routes}] }}\n" if len(self._ports) > 1 else ""
        path = self._folder / f"server-{number}.conf"
        path.write_text(
            f'server_name: s{number}\nlisten: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{self._folder / f"store-{number}"}" }}\n'
            f"{cluster}"
        )
        return processes.Process(
            "nats-server", [processes.nats_binary(), "-c", str(path)], log=path.with_suffix(".log")
        )

    async def start(self) -> None:
        for process in self._processes:
            process.start()
        for port, _ in self._ports:
            processes.until_listening("127.0.0.1", port)
            self.buses.append(await connection.connect(f"nats://127.0.0.1:{port}", name="test"))
        await asyncio.wait_for(jetstream.ensure_streams(self.buses[0], replicas=len(self.buses)), WITHIN_S)

    async def stop(self) -> None:
        for bus in self.buses:
            await bus.close()
        for process in self._processes:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=[1, 3])
async def servers(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    servers = Servers(tmp_path, request.param)
    try:
        await servers.start()
        yield servers
    finally:
        await servers.stop()


async def claimed(bus: connection.Bus) -> revision.Claim:
    """Another writer that is just writing holds a claim up, on three replicas."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                return await revision.claim(bus, streams.FACT, subjects.FACT_WRITER)
            except revision.Fenced:
                await asyncio.sleep(0.001)


async def write_until_fenced(bus: connection.Bus, claim: revision.Claim, round_: int) -> int:
    """How many facts were stored, one after the other."""
    for number in range(10**6):
        pod = facts.Pod(namespace=f"r{round_}", name=f"p{number}", uid="0")
        fact = Outgoing(subjects.fact("pod", pod.namespace, pod.name), codec.encode(pod))
        try:
            await revision.publish_alone(
                bus, fact, writer=subjects.FACT_WRITER, expected_sequence=claim.sequence
            )
        except revision.Fenced:
            return number
    raise AssertionError("never fenced")


async def test_nothing_is_stored_alone_after_anothers_claim(servers: Servers) -> None:
    choice = random.Random(7)
    claim, written = await claimed(servers.buses[0]), 0
    for round_ in range(ROUNDS):
        stale, fresh = choice.choice(servers.buses), choice.choice(servers.buses)
        writing = asyncio.ensure_future(write_until_fenced(stale, claim, round_))
        await asyncio.sleep(choice.uniform(0.0, 0.006))
        claim = await claimed(fresh)
        count = await asyncio.wait_for(writing, WITHIN_S)
        written += count
        filters = [f"{subjects.ROOT}.fact.pod.r{round_}.>", subjects.FACT_WRITER]
        *found, writer = await follower.read(fresh, streams.FACT, filters, up_to=claim.sequence)
        assert writer.sequence == claim.sequence
        assert len(found) == count
        assert all(message.sequence < claim.sequence for message in found)
    assert written > ROUNDS
