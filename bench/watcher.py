"""`make bench-watcher`: what the watcher costs, per object and at rest, and how soon an event is a fact.

Against a synthetic API endpoint with as many pods as a large cluster, and against the real kube-apiserver
with pods made through it; beside the same walk written with the kubernetes package alone. Prints a table,
writes build/bench/watcher.json and, in full runs, its section of docs/performance.md. `--small` is a quick
run that shows that everything works, and measures nothing worth keeping.
"""

import argparse
import asyncio
import functools
import logging
import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import msgspec

from bench import figures
from bench import watcher_stage as stage
from bench.figures import Figure
from ebbgate_lab import apiserver

READY = "watcher.ready"
RIVALS = {"watch": "the kubernetes package's Watch", "informer": "its SharedInformer"}


class Plan(msgspec.Struct, frozen=True):
    """How much is measured. `events` per second, for `seconds`; rivals get `few` per second, for five."""

    large: int
    real: int
    rivals: int
    events: int
    seconds: float
    few: int = 20
    rival_seconds: float = 5.0


FULL = Plan(large=150_000, real=20_000, rivals=20_000, events=100, seconds=20.0)
SMALL = Plan(large=3_000, real=300, rivals=300, events=50, seconds=1.0, few=50, rival_seconds=0.2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.watcher", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a quick run, which writes no documents")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    plan = SMALL if given.small else FULL
    with tempfile.TemporaryDirectory(prefix="ebbgate-bench-") as folder:
        found = [*measure_synthetic(pathlib.Path(folder), plan), *measure_real(pathlib.Path(folder), plan)]
    figures.report("watcher-small" if given.small else "watcher", found)
    if not given.small:
        figures.document("watcher", page(plan, found))


def measure_synthetic(folder: pathlib.Path, plan: Plan) -> Iterator[Figure]:
    """The same endpoint, by ourselves with all its pods, and by each rival with as many as it can take."""
    with stage.Synthetic(folder, plan.large).running() as api, stage.Bus(folder / "large").running() as bus:
        process = stage.watcher(bus, api.kubeconfig, folder / "large.log")
        try:
            cold = stage.run(process, READY)
            yield from _cold(plan.large, cold)
            spent = stage.cpu_s(process.pid)
            found = asyncio.run(
                stage.latencies(
                    bus.url, lambda: api.change(plan.events, plan.seconds), int(plan.events * plan.seconds)
                )
            )
            share = (stage.cpu_s(process.pid) - spent) / plan.seconds
            yield from _latency(f"event on the wire → fact on the bus, {plan.large:,} pods", found.from_event)
            yield Figure(f"CPU at {plan.events} events/s", round(share * 100, 1), "% of a core")
            process.kill()
            again = stage.run(process, READY)
            beside = f"{again.seconds:.1f} s, {again.cpu_s:.1f} s CPU; nothing is published"
            yield Figure("memory of a restart, at most", round(again.mb), "MB", beside)
        finally:
            process.stop()
    yield from _rivals(folder, plan)


def _cold(pods: int, cold: stage.Run) -> Iterator[Figure]:
    rate = pods / cold.cpu_s
    beside = f"target 20,000; {cold.seconds:.1f} s, {cold.cpu_s:.1f} s CPU, start of the process included"
    yield Figure(f"{pods:,} pods, API server → acknowledged facts", round(rate), "objects per s CPU", beside)
    yield Figure(f"memory at {pods:,} pods, at most", round(cold.mb), "MB", "target 300 MB")


def _latency(what: str, found: Sequence[float]) -> Iterator[Figure]:
    p50, p99 = figures.quantile(found, 0.5), figures.quantile(found, 0.99)
    yield Figure(f"{what}, p50", round(p50, 2), "ms", f"{len(found)} events")
    yield Figure(f"{what}, p99", round(p99, 2), "ms", f"target 10 ms; most {max(found):.3g} ms")


def _rivals(folder: pathlib.Path, plan: Plan) -> Iterator[Figure]:
    with stage.Synthetic(folder, plan.rivals).running() as api:
        ours, events = _one(folder, "ours", api, plan)
        beside = f"{ours.mb:.0f} MB; {events}; start of the process included, here as below"
        rate = round(plan.rivals / ours.cpu_s)
        yield Figure(f"{plan.rivals:,} pods, the same endpoint", rate, "objects per s CPU", beside)
        for way, name in RIVALS.items():
            theirs, events = _one(folder, way, api, plan)
            beside = f"{theirs.cpu_s / ours.cpu_s:.0f} times the CPU; {theirs.mb:.0f} MB; {events}"
            rate = round(plan.rivals / theirs.cpu_s)
            yield Figure(f"the same by {name}", rate, "objects per s CPU", beside)


def _one(folder: pathlib.Path, way: str, api: stage.Synthetic, plan: Plan) -> tuple[stage.Run, str]:
    """All pods by one of the ways, then a few events; these in words."""
    log, count = folder / f"{way}.log", int(plan.few * plan.rival_seconds)
    with stage.Bus(folder / way).running() as bus:
        if way == "ours":
            process, word = stage.watcher(bus, api.kubeconfig, log), READY
        else:
            process, word = stage.rival(way, bus, api.kubeconfig, log, pods=plan.rivals), "done"
        try:
            cold = stage.run(process, word)
            change = functools.partial(api.change, plan.few, plan.rival_seconds)
            found = asyncio.run(stage.latencies(bus.url, change, count))
        finally:
            process.stop()
    p50, p99 = figures.quantile(found.from_event, 0.5), figures.quantile(found.from_event, 0.99)
    return cold, f"event → fact p50 {p50:.1f}, p99 {p99:.1f} ms"


def measure_real(folder: pathlib.Path, plan: Plan) -> Iterator[Figure]:
    """The real kube-apiserver and etcd: pods made while the watcher looks on, then changed steadily."""
    api = apiserver.ApiServer(folder / "kubernetes")
    try:
        api.start()
        with stage.Bus(folder / "real").running() as bus:
            process = stage.watcher(bus, api.kubeconfig(), folder / "real.log")
            try:
                stage.run(process, READY)
                yield from _created(api, bus, process.pid, plan)
                yield from _changed(api, bus, plan)
            finally:
                process.stop()
        with stage.in_memory() as memory, stage.Bus(memory).running() as bus:
            process = stage.watcher(bus, api.kubeconfig(), folder / "fresh.log")
            try:
                cold = stage.run(process, READY)
                beside = f"{cold.seconds:.1f} s, {cold.cpu_s:.1f} s CPU; {cold.mb:.0f} MB"
                rate = round(plan.real / cold.cpu_s)
                yield Figure(f"{plan.real:,} pods listed anew", rate, "objects per s CPU", beside)
                yield from _changed(api, bus, plan, ", nats-server's store in memory")
            finally:
                process.stop()
    finally:
        api.stop()


def _created(api: apiserver.ApiServer, bus: stage.Bus, pid: int, plan: Plan) -> Iterator[Figure]:
    spent = stage.cpu_s(pid)
    seconds = asyncio.run(stage.until_facts(bus.url, plan.real, lambda: stage.create_pods(api, plan.real)))
    used = stage.cpu_s(pid) - spent
    beside = f"{seconds:.0f} s, limited by the API server; {used:.1f} s CPU of the watcher"
    yield Figure(
        f"{plan.real:,} pods made through the real API", round(plan.real / used), "objects per s CPU", beside
    )
    yield Figure("memory then, at most", round(stage.peak_mb(pid)), "MB")


def _changed(api: apiserver.ApiServer, bus: stage.Bus, plan: Plan, how: str = "") -> Iterator[Figure]:
    took: list[float] = []

    def change() -> None:
        took.extend(stage.change_pods(api, plan.events, plan.seconds))

    found = asyncio.run(stage.latencies(bus.url, change, int(plan.events * plan.seconds)))
    yield from _latency(f"request to the real API → fact on the bus{how}", found.from_event)
    parts = {"the API's answer": took, "from being seen by the watcher": found.from_seen}
    for part, values in parts.items():
        p50, p99 = figures.quantile(values, 0.5), figures.quantile(values, 0.99)
        yield Figure(f"of that, {part}, p50", round(p50, 2), "ms", f"p99 {p99:.1f} ms")


def page(plan: Plan, found: Sequence[Figure]) -> list[str]:
    return [
        f"`make bench-watcher`, measured on {figures.machine()}.",
        "",
        *figures.markdown(found),
    ]


if __name__ == "__main__":
    main()
