"""`python -m ebbgate_lab.older COMMIT FOLDER`: Ebbgate as it was at a commit, for an upgrade to
begin with: FOLDER/tree has the sources, with the chart, FOLDER/NAME.tar the images, made by that tree itself.

It gets a version of its own, lower than all, so that both can be told apart. Needs root, as `images` does.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

from ebbgate_lab import images

VERSION = "0.0.1"


def main() -> None:
    parser = argparse.ArgumentParser(prog="older", description=__doc__)
    parser.add_argument("commit")
    parser.add_argument("folder", type=pathlib.Path)
    given = parser.parse_args()
    tree = given.folder.resolve() / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    _unpack(given.commit, tree)
    _rename(tree)
    subprocess.run(["make", "-s", "-C", "services/programmer/bpf"], cwd=tree, check=True)
    # Its own way to make images, with the Python of this one.
    path = os.pathsep.join(str(tree / part) for part in ("deploy/lab", "bus"))
    command = [sys.executable, "-m", "ebbgate_lab.images", str(tree.parent)]
    subprocess.run(command, cwd=tree, env=os.environ | {"PYTHONPATH": path}, check=True)


def _unpack(commit: str, tree: pathlib.Path) -> None:
    archive = subprocess.run(
        ["git", "-C", str(images.ROOT), "archive", commit], check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)


def _rename(tree: pathlib.Path) -> None:
    """What each package and the chart say of themselves, where a line begins with it."""
    for path in (*tree.rglob("pyproject.toml"), tree / "deploy/helm/ebbgate/Chart.yaml"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(_renamed(line) for line in lines))


def _renamed(line: str) -> str:
    if line.startswith("version = "):
        return f'version = "{VERSION}"\n'
    name, colon, _ = line.partition(":")
    return f"{name}: {VERSION}\n" if colon and name in ("version", "appVersion") else line


if __name__ == "__main__":
    main()
