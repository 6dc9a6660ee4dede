"""A figure, the table a person reads and the JSON a program reads."""

import math
import pathlib
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

FOLDER = pathlib.Path("build/bench")


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


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values don't exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
