"""`make bench-watcher` works to the last figure. A run so small measures nothing."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_a_small_run_yields_every_figure() -> None:
    command = [sys.executable, "-m", "bench.watcher", "--small"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((ROOT / "build/bench/watcher-small.json").read_text())
    assert len(found) == 20
    assert all(each["value"] > 0 for each in found)
