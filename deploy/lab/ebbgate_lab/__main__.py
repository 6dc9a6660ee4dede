"""`python -m ebbgate_lab demo|down`: the first scenario on this machine, and its removal."""

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

PREFIX = os.environ.get("EBBGATE_LAB_PREFIX", "ebb-")
"""Of the names of namespaces and pins: two labs with different prefixes don't meet."""
STATE = pathlib.Path(f"/run/{PREFIX}lab.json")
"""What `down` needs to know of a lab that was left running: its folder and the pids of its processes."""


def main() -> None:
    given = _arguments()
    console = Console(highlight=False, soft_wrap=True)
    if lacking := prerequisites.missing():
        console.print("The lab can't run here. Missing:", *(f"  - {line}" for line in lacking), sep="\n")
        sys.exit(1)
    # SIGTERM takes the same way out as Ctrl-C and the end of the story: through `finally`.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_down(console) if given.command == "down" else _demo(console, given))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ebbgate-lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    telling = commands.add_parser("demo", help="tell the first scenario; exit status 1 if any line is wrong")
    telling.add_argument("--source", choices=("directory", "kubernetes"), default="directory")
    telling.add_argument("--keep", action="store_true", help="leave everything running at the end")
    commands.add_parser("down", help="remove what `demo --keep` left running")
    return parser.parse_args()


def _demo(console: Console, given: argparse.Namespace) -> int:
    _down(console)
    scene = lab.Lab(prefix=PREFIX, outlive=given.keep)
    logs.setup(service="lab", name="demo", stream=(scene.folder / "lab.log").open("w"))
    began = time.monotonic()
    kept = False
    try:
        if given.source == "kubernetes":
            scene.source = lab.kubernetes(scene)
            console.print("Objects live in a [bold]real kube-apiserver[/] with etcd")
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


async def _tell(scene: lab.Lab, console: Console) -> None:
    console.print("[bold]Two nodes, two pods, and nginx outside[/]: six network namespaces on this machine")
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
    STATE.write_text(json.dumps({"prefix": scene.prefix, "folder": str(scene.folder), "pids": scene.pids()}))
    inside = f"nsenter --net=/run/netns/{scene.netns('control')}"
    console.print(
        "\nLeft running. Try:",
        f"  nsenter --net=/run/netns/{scene.netns('mediabot')} curl http://10.168.60.13/hello",
        f"  tail -f {scene.folder}/access.log",
        f"  {inside} .venv/bin/ebbgate list --nats {scene.url}",
        f"  {inside} .venv/bin/ebbgate tap --nats {scene.url}",
        f"  edit the policy in {scene.folder}/manifests, and look again",
        "  make down   when you have seen enough",
        sep="\n",
        markup=False,
    )


def _down(console: Console) -> int:
    """End the processes of a lab that was left running, by their pids, and remove what it made."""
    if STATE.exists():
        left = json.loads(STATE.read_text())
        scene = lab.Lab(prefix=left["prefix"], folder=pathlib.Path(left["folder"]))
        scene.end(left["pids"])
        scene.down()
        STATE.unlink()
        console.print("Removed the lab that was left running.")
    return 0


if __name__ == "__main__":
    main()
