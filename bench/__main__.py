"""`make bench`: all figures. Each benchmark prints a table and writes build/bench/<name>.json."""

import argparse
import asyncio
import logging
import sys

from bench import figures, lab
from ebbgate_lab import prerequisites


def main() -> None:
    if lacking := prerequisites.missing():
        sys.exit("\n  - ".join(["The benchmarks can't run here. Missing:", *lacking]))
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--document", action="store_true", help="also write the tables into docs/performance.md"
    )
    given = parser.parse_args()
    measured = asyncio.run(lab.run())
    figures.report("lab", measured)
    if given.document:
        figures.document("lab", [f"Measured on {figures.machine()}.", "", *figures.markdown(measured)])


if __name__ == "__main__":
    main()
