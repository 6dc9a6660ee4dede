"""`python -m ebbgate_lab.picture FILE`: the command line at work on the first scenario, for the README.

What is drawn is what the commands said, in a lab of its own that was told the whole story before.
"""

import asyncio
import io
import os
import pathlib
import subprocess
import sys

from rich.console import Console
from rich.text import Text

from ebbgate_bus.runtime import logs
from ebbgate_lab import demo, lab, namespaces, processes

PREFIX = "ebpic-"
WIDTH = 124
SHOWN = (
    ("status",),
    ("explain", "default/mediabot", "198.51.100.7"),
    ("tap", "--since", "10m", "--policy", "egress-sample", "--kind", "verdict", "--count", "3"),
)


def main(file: pathlib.Path) -> None:
    scene = lab.Lab(prefix=PREFIX)
    logs.setup(service="lab", name="picture", stream=(scene.folder / "lab.log").open("w"))
    try:
        asyncio.run(_tell(scene))
        shown = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
        for arguments in SHOWN:
            shown.print(Text.assemble(("$ ", "dim"), (f"ebbgate {' '.join(arguments)}", "bold")))
            shown.print(
                Text.from_ansi(_said(scene, *arguments).replace(scene.url, "nats://ebbgate-nats:4222"))
            )
        shown.save_svg(str(file), title="ebbgate", clear=False)
    finally:
        scene.down()


async def _tell(scene: lab.Lab) -> None:
    scene.build()
    with namespaces.entered(scene.netns("control")):
        scene.install()
        bus, watching = await scene.observe()
        try:
            await demo.Demo(scene, watching, Console(file=io.StringIO())).tell()
        finally:
            watching.stop()
            await bus.close()


def _said(scene: lab.Lab, *arguments: str) -> str:
    program = pathlib.Path(sys.executable).with_name("ebbgate")
    command = [*processes.inside(scene.netns("control")), str(program), *arguments, "--nats", scene.url]
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
