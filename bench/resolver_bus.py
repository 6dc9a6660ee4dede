"""The resolver's process on the real nats-server: FACT → last PLAN ack, and churn held for some seconds.

FACT is filled first, then the resolver started: what counts is its own time. Then pods move at a steady rate
and each new endpoint row is waited for on `live`, as a programmer would.
"""

import asyncio
import json
import os
import pathlib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from nats.aio.msg import Msg

from bench import worlds
from ebbgate_bus.contracts import subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_bus.runtime import connection, jetstream, publisher
from ebbgate_lab import processes

QUIET_S = 4.0
"""Without a new revision for so long, the resolver has written all it has to write."""
DEADLINE_S = 240.0
SETTLE_S = 5.0


class Cold(msgspec.Struct, frozen=True):
    """`seconds`: from the process's start to its last PLAN ack. `cpu_s`: of it, all threads."""

    seconds: float
    cpu_s: float
    rss_mb: float
    messages: int


class Churn(msgspec.Struct, frozen=True):
    """`latencies_ms`: from publishing a pod to its endpoint row on `live`. `cpu_share`: of one core."""

    latencies_ms: list[float]
    cpu_share: float
    pods: int


async def measure(world: worlds.World, *, rate: int, seconds: float) -> tuple[Cold, Churn]:
    with tempfile.TemporaryDirectory(prefix="ebbgate-bench-") as folder:
        async with _served(pathlib.Path(folder)) as (bus, url):
            sender = publisher.Publisher(bus)
            await sender.start()
            part: list[Outgoing] = []
            for message in world.facts():
                part.append(Outgoing(message.subject, message.payload))
                if len(part) == publisher.WINDOW:
                    await sender.publish(part)
                    part.clear()
            await sender.publish(part)
            command = [sys.executable, "-m", "ebbgate_resolver", "--nats", url, "--name", "bench"]
            resolver = processes.Process("resolver", command, log=pathlib.Path(folder) / "resolver.log")
            try:
                cold = await _start(resolver)
                return cold, await _churn(world, bus, resolver, int(rate * seconds), rate)
            finally:
                resolver.stop()


@asynccontextmanager
async def _served(folder: pathlib.Path) -> AsyncIterator[tuple[connection.Bus, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = processes.nats_server(folder, host="127.0.0.1", port=port)
    server.start()
    try:
        processes.until_listening("127.0.0.1", port)
        url = f"nats://127.0.0.1:{port}"
        bus = await connection.connect(url, name="bench")
        await jetstream.ensure_streams(bus)
        yield bus, url
        await bus.close()
    finally:
        server.stop()


async def _start(resolver: processes.Process) -> Cold:
    """Start it, and wait until its revisions cease."""
    began = time.monotonic()
    resolver.start()
    last, messages, seen = began, 0, 0
    while time.monotonic() - began < DEADLINE_S:
        await asyncio.sleep(0.1)
        stored = _stored(resolver.log)
        if len(stored) > seen:
            last, seen, messages = time.monotonic(), len(stored), sum(stored)
            cpu_s, rss_mb = _cpu_s(resolver.pid), _peak_mb(resolver.pid)
        if seen and time.monotonic() - last > QUIET_S:
            return Cold(last - began, cpu_s, rss_mb, messages)
    raise TimeoutError(f"the resolver has written no rows after {DEADLINE_S:.0f} s: see its log")


def _stored(log: pathlib.Path) -> list[int]:
    """How many messages each revision had."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if '"revision.stored"' in line]
    return [int(line["messages"]) for line in lines]


async def _churn(
    world: worlds.World, bus: connection.Bus, resolver: processes.Process, pods: int, rate: int
) -> Churn:
    """Pods move: the same names elsewhere with new addresses, one every 1/rate seconds."""
    arrived: dict[str, float] = {}

    async def take(message: Msg) -> None:
        arrived.setdefault(message.subject.rpartition(".")[2], time.monotonic())

    await bus.subscribe(f"{subjects.LIVE}.plan.node.*.endpoint.*", cb=take)
    events = [
        world.pod(number % world.size.pods, generation=1 + number // world.size.pods)
        for number in range(pods)
    ]
    sent: dict[str, float] = {}
    began, cpu_before = time.monotonic(), _cpu_s(resolver.pid)
    for number, pod in enumerate(events):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        message = worlds.stored(pod)
        sent[subjects.escape(pod.ips[0])] = time.monotonic()
        await _send(bus, message)
    took_s = time.monotonic() - began
    cpu_s = _cpu_s(resolver.pid) - cpu_before
    await asyncio.sleep(SETTLE_S)  # what hasn't come by now will not: no policy chooses it
    latencies = [(arrived[ip] - at) * 1000 for ip, at in sent.items() if ip in arrived]
    return Churn(latencies, cpu_s / took_s, pods)


async def _send(bus: connection.Bus, message: Stored) -> None:
    await bus.publish(message.subject, message.payload)


def _cpu_s(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
