"""What the resolver says of itself over HTTP: before there is a bus, and when it writes the plan."""

import asyncio
import pathlib
import socket
import sys
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ebbgate_bus.contracts import codec, facts, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, publisher
from ebbgate_lab import observer, processes

from .conftest import on_one


class Resolver:
    def __init__(self, url: str, folder: pathlib.Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "ebbgate_resolver", "--nats", url, "--name", "r1"]
        command += ["--health-bind", "127.0.0.1", "--health-port", str(self.port)]
        self.process = processes.Process("r1", command, log=folder / "r1.log")

    async def ask(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def until_ready(self) -> None:
        async with asyncio.timeout(20):
            while (await self.ask("/readyz"))[0] != 200:
                await asyncio.sleep(0.02)

    async def metrics(self) -> dict[str, float]:
        """Name and labels' values → value."""
        _, text = await self.ask("/metrics")
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return {" ".join([each.name, *each.labels.values()]): each.value for each in samples}


@pytest.fixture
def resolver(server: Any, tmp_path: pathlib.Path) -> Any:
    resolver = Resolver(server.url, tmp_path)
    yield resolver
    resolver.process.stop()


@on_one
async def test_without_a_bus_it_lives_and_is_not_ready(resolver: Resolver, server: Any) -> None:
    server.kill()
    resolver.process.start()
    processes.until_listening("127.0.0.1", resolver.port)
    assert (await resolver.ask("/healthz"))[0] == 200
    status, reason = await resolver.ask("/readyz")
    assert status == 503
    assert reason.startswith("the bus isn't reached: ")
    found = await resolver.metrics()
    assert (found["ebbgate_bus_connected"], found["ebbgate_resolver_ready"]) == (0, 0)
    server.start()
    await resolver.until_ready()


async def test_it_tells_of_its_work_and_of_each_policy(resolver: Resolver, bus: connection.Bus) -> None:
    publishing = publisher.Publisher(bus)
    await publishing.start()
    policy = facts.Policy(name="sample", uid="p1", generation=1, spec={"no": "spec"})
    messages = {subjects.fact("policy", "sample"): policy}
    messages |= {subjects.fact("node", "node1"): facts.Node(name="node1", internal_ips=("10.0.0.1",))}
    messages |= {subjects.synced(kind): facts.Synced(kind=kind) for kind in facts.KINDS}
    await publishing.publish([Outgoing(s, codec.encode(m)) for s, m in messages.items()])
    watching = observer.Observer(bus)
    watching.start()
    resolver.process.start()
    await watching.until(lambda seen: seen.verdict("sample") is not None, what="the verdict")
    await resolver.until_ready()
    found = await resolver.metrics()
    watching.stop()
    assert (found["ebbgate_resolver_leader"], found["ebbgate_resolver_ready"]) == (1, 1)
    assert (found["ebbgate_resolver_objects policy"], found["ebbgate_resolver_nodes silent"]) == (1, 1)
    assert found["ebbgate_resolver_policy_ready sample"] == 0
    assert any(key.startswith("ebbgate_resolver_policy_condition Accepted sample") for key in found)
    assert found["ebbgate_resolver_revisions_total"] >= 1
    assert found["ebbgate_resolver_work_seconds_count resolve"] >= 1
    assert found["ebbgate_bus_connected"] == 1
    assert "ebbgate_bus_certificate_expiry_timestamp_seconds" not in found  # no TLS here
