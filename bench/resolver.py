"""`make bench-resolver`: what the resolver costs, from nothing and per event, and how that grows.

Prints a table, writes build/bench/resolver.json and, in full runs, the section of docs/performance.md between
its markers. `--small` is a quick run that shows that everything works, and measures nothing worth keeping.
"""

import argparse
import asyncio
import logging
import pathlib
import secrets
from collections.abc import Iterator

import msgspec

from bench import figures, plots, resolver_bus, resolver_core, worlds
from bench.figures import Figure

PAGE = pathlib.Path("docs/performance.md")
PLOT = pathlib.Path("docs/images/resolver-growth.svg")
BEGIN, END = "<!-- bench-resolver:begin -->", "<!-- bench-resolver:end -->"
GROWTH = worlds.Size(pods=10_000, nodes=500, policies=100, namespaces=60, gateways=20)
FACTORS = (1, 2, 4, 8)
TARGETS = {"one pod event": 1.0}


class Grown(msgspec.Struct, frozen=True):
    """One size of one growing thing. `cold_s`, `event_ms`: CPU from nothing, and of one pod event, p50."""

    what: str
    value: int
    factor: int
    cold_s: float
    event_ms: float


class Plan(msgspec.Struct, frozen=True):
    """How much is measured. `sample`: pods that the plain evaluator is asked about."""

    size: worlds.Size
    growth: worlds.Size
    factors: tuple[int, ...]
    events: int
    sample: int
    churn_s: float
    rate: int = 100


FULL = Plan(worlds.Size(), GROWTH, FACTORS, events=1000, sample=2_000, churn_s=20.0)
SMALL = Plan(worlds.SMALL, worlds.SMALL, (1, 2), events=20, sample=100, churn_s=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.resolver", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a quick run, which writes no documents")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000))
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    plan = SMALL if given.small else FULL
    world = worlds.World(plan.size, given.seed)
    print(f"seed {given.seed}: {plan.size.text()}", flush=True)
    found = [*measure_core(world, plan), *measure_bus(world, plan)]
    grown = list(measure_growth(plan, given.seed))
    figures.report("resolver-small" if given.small else "resolver", found)
    section = "\n".join(page(world, found, grown))
    if given.small:
        print(section)
    else:
        write(section, grown)


def measure_core(world: worlds.World, plan: Plan) -> Iterator[Figure]:
    yield Figure(
        "this machine: a million turns of an empty loop, CPU",
        round(resolver_core.loop_ms(), 1),
        "ms",
        "to compare milliseconds between runs",
    )
    before_mb = resolver_core.rss_mb()
    stage = resolver_core.Stage(world)
    cold_s = stage.start()
    yield Figure("from nothing to all rows, core: CPU", round(cold_s, 2), "s", "target 10 s")
    used_mb = resolver_core.rss_mb() - before_mb
    yield Figure("from nothing to all rows, core: memory", round(used_mb), "MB", "target 1,000 MB")
    endpoints = sum(".endpoint." in subject for subject in stage.resolver.live_rows)
    yield Figure("rows", len(stage.resolver.live_rows), "", f"{endpoints:,} endpoints among them")
    stage.settle()
    simulated_s = resolver_core.simulate_s(stage)
    yield Figure("`ebbgate simulate`, one policy deleted: CPU", round(simulated_s, 2), "s")
    plain_ms = plain_event_ms(world, plan)
    for name, spent_ms in resolver_core.measure_events(stage, plan.events).items():
        p50, p99 = resolver_core.quantiles(spent_ms)
        target = f"target {TARGETS[name]:g} ms; " if name in TARGETS else ""
        beside = f"plain: {plain_ms:,.0f} ms, {plain_ms / p50:,.0f} times as much; {len(spent_ms)} events"
        yield Figure(f"{name}, core: CPU p50", round(p50, 3), "ms", beside)
        yield Figure(f"{name}, core: CPU p99", round(p99, 3), "ms", target + f"most {max(spent_ms):.3g} ms")


def plain_event_ms(world: worlds.World, plan: Plan) -> float:
    """Of all pods, from a sample: it grows with pods times policies."""
    plain = resolver_core.Plain(world, plan.sample)
    return plain.evaluate_ms() * world.size.pods / len(plain.pods)


def measure_bus(world: worlds.World, plan: Plan) -> Iterator[Figure]:
    cold, churn = asyncio.run(resolver_bus.measure(world, rate=plan.rate, seconds=plan.churn_s))
    beside = f"target 20 s; {cold.cpu_s:.1f} s CPU of the resolver; {cold.messages:,} messages"
    yield Figure("from its start to the last PLAN ack, with nats-server", round(cold.seconds, 1), "s", beside)
    yield Figure("the process's memory, at most", round(cold.rss_mb), "MB", "target 1,000 MB")
    arrived = f"{len(churn.latencies_ms)} of {churn.pods} pods are chosen by a policy"
    if churn.latencies_ms:
        p50, p99 = resolver_core.quantiles(churn.latencies_ms)
        yield Figure(f"{plan.rate} pods/s: published → row on live, p50", round(p50, 1), "ms", arrived)
        yield Figure(f"{plan.rate} pods/s: published → row on live, p99", round(p99, 1), "ms")
    yield Figure(f"{plan.rate} pods/s: CPU", round(churn.cpu_share * 100, 1), "% of a core")


def measure_growth(plan: Plan, seed: int) -> Iterator[Grown]:
    """One thing grows, the others stay."""
    for what in ("pods", "policies", "cidrs", "nodes"):
        for factor in plan.factors:
            value = getattr(plan.growth, what) * factor
            size = msgspec.structs.replace(plan.growth, **{what: value})
            stage = resolver_core.Stage(worlds.World(size, seed))
            cold_s = stage.start()
            stage.settle()
            pods = [stage.world.pod(number) for number in range(0, size.pods, max(1, size.pods // 100))]
            spent = stage.events([worlds.gone(pod) for pod in pods])
            yield Grown(what, value, factor, cold_s, figures.quantile(spent, 0.5))


def page(world: worlds.World, found: list[Figure], grown: list[Grown]) -> Iterator[str]:
    yield f"`make bench-resolver`, seed {world.seed}: {world.size.text()}."
    yield ""
    yield from ("| figure | value | unit | beside |", "|---|---:|---|---|")
    for figure in found:
        yield f"| {figure.figure} | {figure.value:,g} | {figure.unit} | {figure.beside} |"
    yield ""
    yield '"Plain" asks every policy about every pod and builds all rows anew, in Python too; reckoned from'
    yield f"{FULL.sample:,} of the pods."
    yield ""
    yield "One thing grows, the others stay as they are in its first line:"
    yield ""
    yield from (
        "| what grows | to | from nothing, CPU s | one pod event, CPU ms, p50 |",
        "|---|---:|---:|---:|",
    )
    for each in grown:
        yield f"| {each.what} | {each.value:,} | {each.cold_s:.2f} | {each.event_ms:.3f} |"
    yield ""
    yield f"![CPU from nothing to all rows, by size](images/{PLOT.name})"


def write(section: str, grown: list[Grown]) -> None:
    lines = {
        what: [plots.Point(each.factor, each.cold_s) for each in grown if each.what == what]
        for what in dict.fromkeys(each.what for each in grown)
    }
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(plots.svg(lines, x_label="times the smallest", y_label="CPU seconds from nothing"))
    text = PAGE.read_text() if PAGE.exists() else "# Performance\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n## Resolver\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{section}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
