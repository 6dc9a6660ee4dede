"""The resolver's benchmark runs, on a small world; what it measures there means nothing."""

import subprocess
import sys

import msgspec

from bench import figures, plots, worlds


def test_the_small_benchmark_runs_to_its_end() -> None:
    command = [sys.executable, "-m", "bench.resolver", "--small", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert "seed 3" in done.stdout
    found = msgspec.json.decode(
        (figures.FOLDER / "resolver-small.json").read_bytes(), type=list[figures.Figure]
    )
    names = {figure.figure for figure in found}
    assert {"one pod event, core: CPU p99", "from its start to the last PLAN ack, with nats-server"} <= names


def test_a_seed_makes_the_same_world_every_time() -> None:
    first, second, other = (worlds.World(worlds.SMALL, seed) for seed in (1, 1, 2))
    assert list(first.facts()) == list(second.facts())
    assert list(first.facts()) != list(other.facts())


def test_a_plot_has_a_line_for_each_series() -> None:
    line = [plots.Point(1, 0.1), plots.Point(8, 2.0)]
    drawn = plots.svg({"pods": line, "nodes": line}, x_label="size", y_label="seconds")
    assert drawn.count("<circle") == 4
    assert all(f">{name}</text>" in drawn for name in ("pods", "nodes", "size", "seconds"))
