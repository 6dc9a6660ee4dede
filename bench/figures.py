"""A figure, the table a person reads and the JSON a program reads."""

import math
import os
import pathlib
import sys
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

FOLDER = pathlib.Path("build/bench")
DOCUMENT = pathlib.Path("docs/performance.md")


class Figure(msgspec.Struct, frozen=True):
    """`beside`: the same figure of what it is compared with, in words and number, or empty."""

    figure: str
    value: float
    unit: str
    beside: str = ""


def report(name: str, figures: Sequence[Figure]) -> None:
    """Print a table and write build/bench/<name>.json."""
    table = Table("figure", "value", "unit", "beside, in the same run", title=name)
    for figure in figures:
        table.add_row(figure.figure, f"{figure.value:g}", figure.unit, figure.beside)
    Console(width=160, soft_wrap=True).print(table)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")


def document(name: str, lines: Sequence[str]) -> None:
    """Replace what stands in docs/performance.md between `<!-- bench-NAME:begin -->` and `…:end -->`."""
    begin, end = f"<!-- bench-{name}:begin -->", f"<!-- bench-{name}:end -->"
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"{DOCUMENT} has no section {name}"
    DOCUMENT.write_text("\n".join((before + begin, *lines, end + after)))


def markdown(figures: Sequence[Figure]) -> list[str]:
    """A table, a line each."""
    head = ["| figure | value | unit | beside, in the same run |", "|---|---|---|---|"]
    return head + [f"| {each.figure} | {each.value:g} | {each.unit} | {each.beside} |" for each in figures]


def machine() -> str:
    """What this was measured on, in words."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return (
        f"{os.cpu_count()} cores, {memory} GiB, Linux {os.uname().release}, Python {sys.version.split()[0]}"
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values don't exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
