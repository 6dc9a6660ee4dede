"""`make bench-datapath`: a pod's way out by Ebbgate, beside the ways that one would otherwise go, in one run.

All ways stand ready at once and are measured in turn, round after round, so that what else happens on the
machine meets all of them; compared are the ways of one round. Prints a table, writes
build/bench/datapath.json and, in full runs, the section of docs/performance.md between its markers. `--small`
is a quick run that shows that everything works.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence

import msgspec

from bench import datapath_load, datapath_plan, datapath_programmer, datapath_worlds, figures
from bench.figures import Figure
from ebbgate_lab import prerequisites

Round = dict[str, dict[str, float]]
"""World's key → measure's key → value."""

PLAIN, KERNEL_ONLY, EBBGATE, MIDDLE, LARGE, BY_DEVICE = "b", "c", "d", "e", "f", "g"
SIZES = {
    EBBGATE: datapath_plan.Size(),
    MIDDLE: datapath_plan.Size(1_000, 10_000),
    LARGE: datapath_plan.Size(50_000, 10_000),
}
SMALL_SIZES = {EBBGATE: datapath_plan.Size(), LARGE: datapath_plan.Size(500, 100)}


class Plan(msgspec.Struct, frozen=True):
    rounds: int
    seconds: datapath_load.Seconds
    sizes: dict[str, datapath_plan.Size]
    effort: datapath_programmer.Effort


FULL = Plan(5, datapath_load.Seconds(), SIZES, datapath_programmer.FULL)
SMALL = Plan(1, datapath_load.Seconds(1, 0.3), SMALL_SIZES, datapath_programmer.SMALL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.datapath", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a quick run, which writes no documents")
    given = parser.parse_args()
    if lacking := prerequisites.missing():
        sys.exit("\n  - ".join(["The benchmark can't run here. Missing:", *lacking]))
    logging.basicConfig(level=logging.ERROR)
    worlds = _worlds((SMALL if given.small else FULL).sizes)
    rounds, programmer = asyncio.run(_measured(worlds, SMALL if given.small else FULL))
    figures.report("datapath-small" if given.small else "datapath", [*_all(worlds, rounds), *programmer])
    section = list(page(worlds, rounds, programmer))
    if given.small:
        print("\n".join(section))
    else:
        figures.document("datapath", section)


def _worlds(sizes: dict[str, datapath_plan.Size]) -> list[datapath_worlds.World]:
    return [
        datapath_worlds.World("a"),
        datapath_worlds.Plain(PLAIN),
        datapath_worlds.KernelOnly(KERNEL_ONLY),
        *(datapath_worlds.Ebbgate(key, size) for key, size in sizes.items()),
        datapath_worlds.ByDevice(BY_DEVICE, datapath_plan.Size()),
    ]


async def _measured(worlds: Sequence[datapath_worlds.World], plan: Plan) -> tuple[list[Round], list[Figure]]:
    load = datapath_load.build(figures.FOLDER)
    try:
        for world in worlds:
            await world.build(load)
        loads = datapath_load.measures(load, plan.seconds)
        rounds = [_round(worlds, loads) for _ in range(plan.rounds)]
        ours = {world.key: world for world in worlds if isinstance(world, datapath_worlds.Ebbgate)}
        return rounds, await datapath_programmer.measure(ours[EBBGATE], ours[LARGE], plan.effort)
    finally:
        for world in worlds:
            world.remove()


def _round(worlds: Sequence[datapath_worlds.World], loads: Sequence[datapath_load.Load]) -> Round:
    """Load by load, so that what is compared is seconds apart."""
    found: Round = {world.key: {} for world in worlds}
    for load in loads:
        for world in worlds:
            found[world.key] |= load(world)
    print("a round is done", flush=True)
    return found


# The tables.


def _all(worlds: Sequence[datapath_worlds.World], rounds: Sequence[Round]) -> Iterator[Figure]:
    for measure in datapath_load.MEASURES:
        for world in worlds:
            beside = f"to plain {_ratio(rounds, measure.key, world.key, PLAIN)}"
            if world.key in SIZES:
                beside += f"; to kernel-only {_ratio(rounds, measure.key, world.key, KERNEL_ONLY)}"
            value = _median(each[world.key][measure.key] for each in rounds)
            yield Figure(f"{measure.title}: {world.title}", value, measure.unit, beside)


def page(
    worlds: Sequence[datapath_worlds.World], rounds: Sequence[Round], programmer: Sequence[Figure]
) -> Iterator[str]:
    yield f"`make bench-datapath`: {len(rounds)} rounds, measured on {figures.machine()}."
    yield ""
    yield "| way | " + " | ".join(f"{each.title}, {each.unit}" for each in datapath_load.MEASURES) + " |"
    yield "|---|" + "---:|" * len(datapath_load.MEASURES)
    for world in worlds:
        medians = [_median(each[world.key][m.key] for each in rounds) for m in datapath_load.MEASURES]
        yield f"| {world.title} | " + " | ".join(f"{value:,}" for value in medians) + " |"
    yield ""
    yield "Ratios within a round: the median of all rounds, and the least and the most."
    yield ""
    yield from _ratios(worlds, rounds)
    yield ""
    yield from figures.markdown(programmer)


def _ratios(worlds: Sequence[datapath_worlds.World], rounds: Sequence[Round]) -> Iterator[str]:
    pairs = [(world.key, PLAIN) for world in worlds if world.key in (KERNEL_ONLY, EBBGATE)]
    pairs.append((EBBGATE, KERNEL_ONLY))
    pairs += [(world.key, EBBGATE) for world in worlds if world.key in (MIDDLE, LARGE)]
    pairs.append((BY_DEVICE, EBBGATE))
    titles = {world.key: world.title.partition(":")[0].partition(",")[0] for world in worlds}
    titles |= {world.key: world.title for world in worlds if world.key in (*SIZES, BY_DEVICE)}
    titles[PLAIN] = "plain routing"
    yield "| way, compared with | " + " | ".join(each.title for each in datapath_load.MEASURES) + " |"
    yield "|---|" + "---:|" * len(datapath_load.MEASURES)
    for one, other in pairs:
        cells = [_ratio(rounds, measure.key, one, other) for measure in datapath_load.MEASURES]
        yield f"| {titles[one]} / {titles[other]} | " + " | ".join(cells) + " |"


def _ratio(rounds: Sequence[Round], measure: str, one: str, other: str) -> str:
    ratios = [each[one][measure] / each[other][measure] for each in rounds]
    return f"{figures.quantile(ratios, 0.5):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _median(values: Iterator[float]) -> float:
    found = figures.quantile(list(values), 0.5)
    return round(found) if found >= 1000 else round(found, 2 if found < 100 else 1)


if __name__ == "__main__":
    main()
