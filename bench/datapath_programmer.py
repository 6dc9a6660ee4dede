"""What the programmer costs: applying changes of some sizes, starting over a full kernel, memory, idling.

Seen from outside only: rows in, Applied out, its process's time and memory, and the line `programmer.ready`.
"""

import asyncio
import os
import pathlib
import subprocess
import time
from collections.abc import AsyncIterator

import msgspec

from bench import datapath_plan, datapath_worlds, figures
from bench.figures import Figure
from ebbgate_bus.contracts import subjects
from ebbgate_lab import processes

NODE = datapath_plan.POD_NODE
READY = '"programmer.ready"'
READY_TIMEOUT_S = 30.0
HINT_S = 1.2
"""A look a second is what hints can bring."""
SHARED = 1_000


class Effort(msgspec.Struct, frozen=True):
    """`changes`: rows changed at once → how often. `idle_s`, `hinted_s`: how long is looked on."""

    changes: dict[int, int]
    idle_s: float
    hinted_s: float


FULL = Effort({1: 20, 100: 20, 10_000: 5}, idle_s=60.0, hinted_s=12.0)
SMALL = Effort({1: 2, 100: 2, 1_000: 1}, idle_s=1.0, hinted_s=2.4)


async def measure(
    small: datapath_worlds.Ebbgate, large: datapath_worlds.Ebbgate, effort: Effort
) -> list[Figure]:
    """Changes are applied to `small`, and everything is read back from `large`."""
    found: list[Figure] = []
    async with small.writing() as writer:
        for count, times in effort.changes.items():
            found += [figure async for figure in _changes(writer, small.size, count, times)]
    async with large.writing() as writer:
        found.append(await _one_set(writer, large.size))
    for world in (small, large):
        found.append(await _restart(world))
    found += await _idle((small, large), effort.idle_s)
    for world in (small, large):
        found.append(await _read_back(world, effort.hinted_s))
    return found


async def _changes(
    writer: datapath_plan.Writer, size: datapath_plan.Size, count: int, times: int
) -> AsyncIterator[Figure]:
    """`count` endpoints come and go: maps, nft sets and conntrack, each row."""
    answers = []
    for number in range(2 * times):
        wanted = datapath_plan.endpoint_rows(size.endpoints + (0 if number % 2 else count))
        answers.append(await writer.publish({subjects.node_scope(NODE): wanted}))
    took = [answer.applied.took_ms for answer in answers]
    since = [answer.applied_ms for answer in answers]
    published = figures.quantile([answer.published_ms for answer in answers], 0.5)
    what = f"{count:,} rows changed" if count > 1 else "1 row changed"
    target = "target 100 ms; " if count == 10_000 else ""
    yield _figure(f"{what}: apply, p50", took, "ms", f"{target}{_spread(took)}")
    beside = f"publishing itself: {published:.1f} ms; {_spread(since)}"
    yield _figure(f"{what}: first row published → Applied, p50", since, "ms", beside)


async def _one_set(writer: datapath_plan.Writer, size: datapath_plan.Size) -> Figure:
    """Many endpoints of one set with many routes: must cost their sum, not their product."""
    count = min(SHARED, size.endpoints)
    there = datapath_plan.endpoint_rows(size.endpoints)
    came = datapath_plan.endpoint_rows(count, first=size.endpoints, of=datapath_plan.SET)
    answer = await writer.publish({subjects.node_scope(NODE): there | came})
    await writer.publish({subjects.node_scope(NODE): there})
    what = f"{count:,} endpoints of a set of {size.routes:,} routes come, over {size.text()}: apply"
    return Figure(what, round(answer.applied.took_ms, 1), "ms")


async def _idle(worlds: tuple[datapath_worlds.Ebbgate, ...], seconds: float) -> list[Figure]:
    """Nothing happens but that the kernel is looked at now and then."""
    pids = [world.programmers[NODE].pid for world in worlds]
    before = [cpu_s(pid) for pid in pids]
    # What is measured here is that time passes and nothing happens.
    await asyncio.sleep(seconds)
    found = []
    for world, pid, spent in zip(worlds, pids, before, strict=True):
        share = 100 * (cpu_s(pid) - spent) / seconds
        what = world.size.text()
        found.append(Figure(f"idle, {what}", round(share, 2), "% of a core", f"target 0.5 %; {seconds:g} s"))
        found.append(Figure(f"memory, {what}", round(rss_mb(pid), 1), "MB resident", "target 80 MB"))
    return found


async def _restart(world: datapath_worlds.Ebbgate, *options: str) -> Figure:
    """Over a kernel that is as it must be: nothing is written."""
    seen = world.programmers[NODE].log.read_text().count(READY)
    began = time.monotonic()
    world.start_programmer(NODE, *options)
    await _ready(world.programmers[NODE], seen)
    took_s = round(time.monotonic() - began, 2)
    return Figure(f"restart over {world.size.text()} until ready", took_s, "s", "nothing is written")


async def _read_back(world: datapath_worlds.Ebbgate, seconds: float) -> Figure:
    """The whole kernel read and compared, at each hint: what a pass costs shows as the process's time."""
    await _restart(world, *datapath_worlds.QUIET)
    pid = world.programmers[NODE].pid
    looks = max(1, round(seconds / HINT_S))
    before = cpu_s(pid)
    for number in range(looks):
        _hint(world, "del" if number % 2 else "add")
        await asyncio.sleep(HINT_S)
    pass_ms = 1000 * (cpu_s(pid) - before) / looks
    return Figure(f"all read back and compared, {world.size.text()}: CPU", round(pass_ms, 1), "ms")


def _hint(world: datapath_worlds.Ebbgate, verb: str) -> None:
    """By somebody else's rule, which leads nowhere: nothing has to be repaired."""
    rule = ("rule", verb, "priority", "31999", "lookup", "253")
    subprocess.run(("ip", "-n", world.netns(NODE), *rule), check=True)


async def _ready(process: processes.Process, seen: int) -> None:
    """Returns when it has said so more often than `seen`."""
    async with asyncio.timeout(READY_TIMEOUT_S):
        while process.log.read_text().count(READY) <= seen:
            await asyncio.sleep(0.005)


def cpu_s(pid: int) -> float:
    """With that of the processes it started and that ended."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0]) / 1024


def _figure(name: str, values: list[float], unit: str, beside: str) -> Figure:
    return Figure(name, round(figures.quantile(values, 0.5), 1), unit, beside)


def _spread(values: list[float]) -> str:
    return f"{min(values):.1f}-{max(values):.1f} in {len(values)} changes"
