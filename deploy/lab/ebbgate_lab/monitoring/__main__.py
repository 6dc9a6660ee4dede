"""Writes docs/metrics.md and the dashboards: `python -m ebbgate_lab.monitoring REPOSITORY`."""

import pathlib
import sys

from ebbgate_lab.monitoring import files


def main(folder: pathlib.Path) -> None:
    for name, text in files.all_of_them().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
