"""`python -m ebbgate_lab.containerfile FOLDER`: the Containerfile's images as archives, FOLDER/NAME.tar.

Exit status 1 if one isn't as it should be. Needs root, and what `make soak-images` installs first.
"""

import argparse
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from ebbgate_lab import images
from ebbgate_lab.containerfile import base, engine, judge, pip, start

RECIPE = images.RECIPES / "Containerfile"


def main() -> None:
    parser = argparse.ArgumentParser(prog="containerfile", description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # As Ctrl-C does: what was mounted is unmounted on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What a Containerfile copies is looked for from here.
    os.chdir(images.ROOT)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch, (folder / "log").open("w") as log:
        wrong = _build_and_judge(folder, pathlib.Path(scratch), log)
    sys.exit("\n".join(["Not as it should be:", *wrong]) if wrong else 0)


def _build_and_judge(folder: pathlib.Path, scratch: pathlib.Path, log: IO[str]) -> list[str]:
    wrong = []
    with engine.Store(scratch / "store") as store:
        reference = base.tag(RECIPE)
        print(f"{reference}, of Debian's packages", flush=True)
        base.make(reference, scratch / "base.tar", log)
        store.name(store.load(scratch / "base.tar"), reference)
        pip.write_home(scratch / "home")
        for name in images.REFERENCES:
            print(f"{name}, by the Containerfile; what the build says is in {log.name}", flush=True)
            image = store.build(RECIPE, name, scratch / "home", log)
            store.save(image, images.REFERENCES[name], folder / f"{name}.tar")
            made = _opened(store, store.load(images.make(name, scratch)))
            built = _opened(store, image)
            wrong += [f"{name}: {each}" for each in _judged(made, built)]
    return wrong


def _opened(store: engine.Store, image: str) -> judge.Image:
    return judge.Image(store.root(image), store.config(image))


def _judged(made: judge.Image, built: judge.Image) -> Iterator[str]:
    yield from judge.differences(made, built)
    yield from start.failures(built.root, built.config)
    files, size = judge.more(made.root, built.root)
    print(f"  {len(judge.packages(built.root))} Python packages")
    print(f"  {len(start.all_commands(built.root))} commands started")
    print(f"  {files:,} files more than by `make images`, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
