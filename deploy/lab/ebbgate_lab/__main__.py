"""`python -m ebbgate_lab demo|down|cluster|cluster-down`: the first scenario on this machine, or a real
cluster alone; and their removal.
"""

import argparse
import asyncio
import json
import os
import pathlib
import signal
import sys
import time

from rich.console import Console

from ebbgate_bus.runtime import logs
from ebbgate_lab import demo, lab, namespaces, prerequisites
from ebbgate_lab.cluster import cluster
from ebbgate_lab.cluster import scene as scenes

PREFIX = os.environ.get("EBBGATE_LAB_PREFIX", "ebb-")
"""Of the names of namespaces and pins: two labs with different prefixes don't meet."""
CLUSTER_PREFIX = os.environ.get("EBBGATE_CLUSTER_PREFIX", "ebc-")
"""Of those of the cluster that `cluster` leaves running."""


def main() -> None:
    given = _arguments()
    console = Console(highlight=False, soft_wrap=True)
    with_cluster = given.command == "cluster" or getattr(given, "source", "") == "cluster"
    if lacking := [*prerequisites.missing(), *(cluster.missing() if with_cluster else [])]:
        console.print("The lab can't run here. Missing:", *(f"  - {line}" for line in lacking), sep="\n")
        sys.exit(1)
    # SIGTERM takes the same way out as Ctrl-C and the end of the story: through `finally`.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commands = {
        "demo": lambda: _demo(console, given),
        "down": lambda: _down(console, PREFIX),
        "cluster": lambda: _cluster(console),
        "cluster-down": lambda: _down(console, CLUSTER_PREFIX),
    }
    sys.exit(commands[given.command]())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ebbgate-lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    telling = commands.add_parser("demo", help="tell the first scenario; exit status 1 if any line is wrong")
    telling.add_argument("--source", choices=("directory", "kubernetes", "cluster"), default="directory")
    telling.add_argument("--keep", action="store_true", help="leave everything running at the end")
    commands.add_parser("down", help="remove what `demo --keep` left running")
    commands.add_parser("cluster", help="start a real cluster with nginx outside, and leave it running")
    commands.add_parser("cluster-down", help="remove it")
    return parser.parse_args()


def _demo(console: Console, given: argparse.Namespace) -> int:
    _down(console, PREFIX)
    scene = _scene(given)
    logs.setup(service="lab", name="demo", stream=(scene.folder / "lab.log").open("w"))
    began = time.monotonic()
    kept = False
    try:
        asyncio.run(_tell(scene, console))
        console.print(f"\n[bold green]Every line was as it must be[/], in {time.monotonic() - began:.0f} s.")
        if given.keep:
            kept = True
            _keep(scene, console)
    except (demo.WentWrong, TimeoutError) as error:
        console.print(f"\n[bold red]The story went wrong:[/] {error}\n", sep="\n")
        console.print(scene.log_tail(), markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; cleaning up.")
        return 130
    finally:
        if not kept:
            scene.down()
    return 0


def _scene(given: argparse.Namespace) -> lab.Lab:
    if given.source == "cluster":
        return scenes.Scene(prefix=PREFIX, outlive=given.keep)
    scene = lab.Lab(prefix=PREFIX, outlive=given.keep)
    if given.source == "kubernetes":
        scene.source = lab.kubernetes(scene)
    return scene


async def _tell(scene: lab.Lab, console: Console) -> None:
    console.print(scene.introduction)
    scene.build()
    with namespaces.entered(scene.netns("control")):
        scene.install()
        bus, watching = await scene.observe()
        try:
            await demo.Demo(scene, watching, console).tell()
        finally:
            watching.stop()
            await bus.close()


def _keep(scene: lab.Lab, console: Console) -> None:
    """Leave the lab running; what `down` has to end and to remove is written down."""
    _write_state(scene, scene.pids())
    inside = f"nsenter --net=/run/netns/{scene.netns('control')}"
    console.print(
        "\nLeft running. Try:",
        *(f"  {line}" for line in scene.to_try()),
        f"  tail -f {scene.folder}/access.log",
        f"  {inside} .venv/bin/ebbgate list --nats {scene.url}",
        f"  {inside} .venv/bin/ebbgate tap --nats {scene.url}",
        "  make down   when you have seen enough",
        sep="\n",
        markup=False,
    )


def _cluster(console: Console) -> int:
    _down(console, CLUSTER_PREFIX)
    began = time.monotonic()
    scene = scenes.Scene(prefix=CLUSTER_PREFIX, outlive=True)
    _write_state(scene, [])
    try:
        scene.build()
        scene.begin()
    except (TimeoutError, RuntimeError) as error:
        console.print(f"[bold red]The cluster isn't up:[/] {error}\n")
        console.print(scene.log_tail(), markup=False)
        scene.down()
        return 1
    except KeyboardInterrupt:
        scene.down()
        return 130
    _write_state(scene, scene.pids())
    console.print(
        f"A control plane and {len(scene.nodes)} nodes, up in {time.monotonic() - began:.0f} s. Try:"
    )
    lines = (*scene.to_try(), f"tail -f {scene.folder}/access.log", "make cluster-down   to remove it")
    console.print(*(f"  {line}" for line in lines), sep="\n", markup=False)
    return 0


def _state(prefix: str) -> pathlib.Path:
    """What `down` needs to know of what was left running: its kind and folder, and pids of its processes."""
    return pathlib.Path(f"/run/{prefix}lab.json")


def _write_state(scene: lab.Lab, pids: list[int]) -> None:
    content = {"kind": type(scene).__name__, "folder": str(scene.folder), "pids": pids}
    _state(scene.prefix).write_text(json.dumps(content))


def _down(console: Console, prefix: str) -> int:
    """End the processes of a lab that was left running, by their pids, and remove what it made."""
    state = _state(prefix)
    if state.exists():
        left = json.loads(state.read_text())
        kind = scenes.Scene if left["kind"] == "Scene" else lab.Lab
        scene = kind(prefix=prefix, folder=pathlib.Path(left["folder"]))
        scene.end(left["pids"])
        scene.down()
        state.unlink()
        console.print("Removed what was left running.")
    return 0


if __name__ == "__main__":
    main()
