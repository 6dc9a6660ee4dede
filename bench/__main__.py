"""`make bench`: all figures. Each benchmark prints a table and writes build/bench/<name>.json."""

import asyncio
import logging
import sys

from bench import figures, lab
from ebbgate_lab import prerequisites


def main() -> None:
    if lacking := prerequisites.missing():
        sys.exit("\n  - ".join(["The benchmarks can't run here. Missing:", *lacking]))
    logging.basicConfig(level=logging.ERROR)
    figures.report("lab", asyncio.run(lab.run()))


if __name__ == "__main__":
    main()
