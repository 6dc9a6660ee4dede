"""The first scenario's figures: event → kernel, cold starts, memory, throughput and request rate.

All in the lab's namespaces on this machine, with the real services; two noisy cores are what most runs have,
so compare ratios and counts, not milliseconds with another machine's.
"""

import asyncio
import contextlib
import datetime
import json
import pathlib
import re
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from bench import figures
from bench.figures import Figure
from ebbgate_bus.contracts import envelope, streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import connection, follower
from ebbgate_lab import lab, namespaces, observer, processes, sample, sources, webserver

PREFIX = "ebn-"
EVENTS = 200
TRANSFER_S = 4
REQUESTS_S = 4
REPEATS = 3
WARM_UP = 10


async def run() -> list[Figure]:
    """All figures of the lab. Takes about a minute and a half."""
    scene = lab.Lab(prefix=PREFIX)
    try:
        scene.build()
        with namespaces.entered(scene.netns("control")), iperf_server(scene):
            scene.install()
            bus, watching = await scene.observe()
            await watching.until(lambda seen: seen.obeyed(*lab.NODES), what="the first revision")
            try:
                return [figure async for figure in _measured(scene, bus, watching)]
            finally:
                watching.stop()
                await bus.close()
    finally:
        scene.down()


async def _measured(
    scene: lab.Lab, bus: connection.Bus, watching: observer.Observer
) -> AsyncIterator[Figure]:
    direct, steered = await _traffic(scene, watching)
    for figure in _compared(direct, steered):
        yield figure
    await _programmed(scene, watching, sample.spec())
    for kind, change in (("pod", _pod_changes(scene)), ("policy", _policy_changes(scene))):
        delays = await _latencies(bus, change)
        yield Figure(f"{kind} event → kernel, p50", round(figures.quantile(delays, 0.5), 1), "ms")
        yield Figure(
            f"{kind} event → kernel, p99",
            round(figures.quantile(delays, 0.99), 1),
            "ms",
            f"target 50 ms; Cilium's CI limit 1250 ms (its documents); {len(delays)} events",
        )
    for figure in _memory(scene):
        yield figure
    for name in scene.services():
        yield Figure(
            f"cold start of {name}", await _cold_start(scene, name), "s", "python -c pass: " + _bare()
        )


# Traffic: the same client, server and cables, first without a policy, then through the gateway.


async def _traffic(scene: lab.Lab, watching: observer.Observer) -> tuple[dict[str, float], dict[str, float]]:
    direct = _load(scene)
    await _programmed(scene, watching, sample.spec())
    steered = _load(scene)
    return direct, steered


def _load(scene: lab.Lab) -> dict[str, float]:
    """Medians of REPEATS runs: `throughput` in Gbit/s of one TCP stream, `requests` per second, `latency` in
    ms.
    """
    runs = [{"throughput": _throughput(scene), **_requests(scene)} for _ in range(REPEATS)]
    return {key: figures.quantile([run[key] for run in runs], 0.5) for key in runs[0]}


def _throughput(scene: lab.Lab) -> float:
    done = processes.run(
        scene.netns("mediabot"), "iperf3", "-J", "-c", webserver.ADDRESS, "-t", str(TRANSFER_S), timeout_s=30
    )
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def _requests(scene: lab.Lab) -> dict[str, float]:
    result = scene.folder / "requests.result"
    arguments = [webserver.ADDRESS, "--name", "bench", "--seconds", str(REQUESTS_S), "--interval", "0"]
    progress = scene.folder / "requests.progress"
    command = processes.module(
        "ebbgate_lab.client", *arguments, "--progress", str(progress), "--result", str(result)
    )
    processes.run(scene.netns("mediabot"), *command, timeout_s=30)
    counted = json.loads(result.read_text())
    assert not counted["lost"], f"{len(counted['lost'])} requests lost"
    return {"requests": counted["sent"] / counted["took_s"], "latency": counted["median_ms"]}


def _compared(direct: dict[str, float], steered: dict[str, float]) -> Iterator[Figure]:
    for key, name, unit in (
        ("throughput", "one TCP stream through the gateway", "Gbit/s"),
        ("requests", "requests through the gateway, a new connection each", "1/s"),
        ("latency", "request through the gateway, median", "ms"),
    ):
        ratio = steered[key] / direct[key]
        beside = f"direct, masqueraded by the node: {direct[key]:.3g} {unit} (ratio {ratio:.2f})"
        yield Figure(name, round(steered[key], 3), unit, beside)


# Latency: from the time in a fact's header to the time at which the Applied that follows from it is stored.


async def _latencies(bus: connection.Bus, changes: "Iterator[Callable[[], None]]") -> list[float]:
    """Milliseconds from seen to Applied, for one change after the other."""
    delays: list[float] = []
    status = follower.Follower(bus, streams.STATUS, [subjects.status("node1")])
    async with contextlib.aclosing(status.batches()) as batches:
        await anext(batches)
        for number, change in enumerate(changes):
            before_ns = time.time_ns()
            change()
            delay = await _applied_after(batches, before_ns)
            if number >= WARM_UP:
                delays.append(delay)
    return delays


async def _applied_after(batches: "AsyncIterator[follower.Batch]", before_ns: int) -> float:
    async with asyncio.timeout(10):
        async for batch in batches:
            for message in batch.messages:
                seen_ns = int(message.headers.get(envelope.SEEN, "0"))
                if seen_ns > before_ns:
                    return (_stored_ns(message) - seen_ns) / 1e6
    raise AssertionError("the follower ended")


def _stored_ns(message: Stored) -> int:
    whole, _, fraction = message.headers["Nats-Time-Stamp"].removesuffix("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def _pod_changes(scene: lab.Lab) -> "Iterator[Callable[[], None]]":
    """A pod that the policy chooses comes on node1, or goes."""
    for number in range((EVENTS + WARM_UP) // 2):
        pod = _pod(number)
        yield lambda pod=pod: scene.source.apply(pod)  # type: ignore[misc]
        yield lambda pod=pod: scene.source.delete(pod)  # type: ignore[misc]


def _pod(number: int) -> sources.Manifest:
    original: dict[str, Any] = sources.manifests("pods.yaml")[1]
    ip = f"10.244.1.{20 + number}"
    metadata = original["metadata"] | {"name": f"bench-{number}", "uid": f"bench-{number}"}
    status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
    return original | {"metadata": metadata, "status": status}


def _policy_changes(scene: lab.Lab) -> "Iterator[Callable[[], None]]":
    """The policy gets an excluded CIDR, and another one."""
    for number in range(EVENTS + WARM_UP):
        changed = sample.policy(sample.spec(excludedCIDRs=[f"192.168.{number}.0/24"]))
        yield lambda changed=changed: scene.source.apply(changed)  # type: ignore[misc]


async def _programmed(scene: lab.Lab, watching: observer.Observer, spec: dict[str, Any]) -> None:
    generation = scene.source.apply(sample.policy(spec))
    await watching.until(
        lambda seen: sample.programmed(seen.verdict(sample.NAME), generation) and seen.obeyed(*lab.NODES),
        what="the policy programmed",
    )


# Processes.


def _memory(scene: lab.Lab) -> Iterator[Figure]:
    for name in ("nats-server", *scene.services()):
        status = pathlib.Path(f"/proc/{scene.processes[name].pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        beside = "target 80 MB; Cilium agent 285 MB (its documents)" if "programmer" in name else ""
        yield Figure(f"memory of {name}", round(int(found[1]) / 1024, 1), "MB resident", beside)


async def _cold_start(scene: lab.Lab, name: str) -> float:
    """Seconds from exec to the log line that says that it has caught up."""
    process = scene.processes[name]
    process.kill()
    ready = {"watcher": "watcher.ready", "resolver": "plan.claimed"}.get(name, "programmer.ready")
    seen = process.log.read_text().count(f'"{ready}"')
    began = time.monotonic()
    scene.start(name)
    async with asyncio.timeout(15):
        while process.log.read_text().count(f'"{ready}"') == seen:
            await asyncio.sleep(0.005)
    return round(time.monotonic() - began, 2)


def _bare() -> str:
    began = time.monotonic()
    subprocess.run(["python3", "-c", "pass"], check=True)
    return f"{time.monotonic() - began:.2f} s"


@contextlib.contextmanager
def iperf_server(scene: lab.Lab) -> Iterator[None]:
    server = processes.Process(
        "iperf3", ["iperf3", "-s"], log=scene.folder / "iperf3.log", netns=scene.netns("external")
    )
    server.start()
    try:
        processes.until_listening(webserver.ADDRESS, 5201, netns=scene.netns("external"))
        yield
    finally:
        server.kill()
