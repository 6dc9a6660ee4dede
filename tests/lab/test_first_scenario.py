"""The first scenario on real namespaces, all five points, and that nothing of it stays behind.

The story's own checks are the assertions: `WentWrong` at the first line that isn't what it must be.
"""

import io
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from rich.console import Console

from ebbgate_lab import demo, lab, namespaces
from tests.lab.conftest import PREFIX


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "source",
    [pytest.param("directory", marks=pytest.mark.secured), "kubernetes"],
    ids=["secured", "kubernetes"],
)
async def test_the_whole_scenario_with_kills(scene: lab.Lab, source: str) -> None:
    story = io.StringIO()
    if source == "kubernetes":
        scene.source = lab.kubernetes(scene)
    with namespaces.entered(scene.netns("control")):
        scene.install()
        bus, watching = await scene.observe()
        try:
            await demo.Demo(scene, watching, Console(file=story, width=200)).tell()
        except (demo.WentWrong, TimeoutError) as error:
            pytest.fail(f"{error}\n{story.getvalue()}\n{scene.log_tail()}")
        finally:
            watching.stop()
            await bus.close()
    assert story.getvalue().count("✓") >= 25


@pytest.mark.timeout(60)
def test_ctrl_c_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "EBBGATE_LAB_PREFIX": PREFIX}
    telling = subprocess.Popen(
        [sys.executable, "-u", "-m", "ebbgate_lab", "demo"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert telling.stdout is not None
    for line in telling.stdout:
        if "is seen as" in line:
            break
    os.killpg(telling.pid, signal.SIGINT)
    rest = telling.communicate(timeout=30)[0]
    assert telling.returncode == 130, rest
    assert leftovers(telling.pid) == []
    assert list(tmp_path.iterdir()) == []


def leftovers(session: int) -> list[str]:
    """Namespaces and pins of our prefix, and processes of the session that told the story."""
    deadline = time.monotonic() + 5
    while _processes_of(session) and time.monotonic() < deadline:
        time.sleep(0.02)
    namespaces_ = [path.name for path in pathlib.Path("/run/netns").glob(f"{PREFIX}*")]
    pins = [path.name for path in lab.BPFFS.glob(f"{PREFIX}*")]
    return [*namespaces_, *pins, *_processes_of(session)]


def _processes_of(session: int) -> list[str]:
    done = subprocess.run(
        ["ps", "-o", "args=", "-s", str(session)], check=False, capture_output=True, text=True
    )
    return done.stdout.splitlines()
