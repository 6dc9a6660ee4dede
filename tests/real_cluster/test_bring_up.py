"""`make cluster` and `make cluster-down`: what is printed can be used, and nothing stays behind."""

import os
import pathlib
import subprocess

import pytest

from ebbgate_lab import apiserver, lab, processes

PREFIX = "ebrc-"


@pytest.mark.timeout(180)
def test_what_it_prints_can_be_used_and_nothing_stays_behind(tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "EBBGATE_CLUSTER_PREFIX": PREFIX}
    try:
        printed = run("cluster", environment)
        (kubeconfig,) = [line.split("=")[1] for line in printed.splitlines() if "export KUBECONFIG" in line]
        nodes = kubectl(kubeconfig, "get", "nodes", "--no-headers").splitlines()
        assert [line.split()[:2] for line in nodes] == [[f"node{number}", "Ready"] for number in (1, 2, 3)]
        assert kubectl(kubeconfig, "get", "ciliumegressgatewaypolicies", "-o", "name") == ""
    finally:
        run("cluster-down", environment)
    assert leftovers() == []
    assert list(tmp_path.iterdir()) == []


def run(command: str, environment: dict[str, str]) -> str:
    # Not a pipe: what goes on running would hold it open.
    output = pathlib.Path(environment["TMPDIR"]).with_name(f"{command}.txt")
    with output.open("w") as file:
        done = subprocess.run(
            processes.module("ebbgate_lab", command), env=environment, stdout=file, stderr=file, check=False
        )
    assert done.returncode == 0, output.read_text()
    return output.read_text()


def kubectl(kubeconfig: str, *arguments: str) -> str:
    cache = pathlib.Path(kubeconfig).with_name("cache")
    command = [str(apiserver.binary("kubectl")), f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def leftovers() -> list[str]:
    """Whatever bears the prefix: namespaces, cgroups, pins, mounts, state, and processes."""
    places = (pathlib.Path("/run/netns"), pathlib.Path("/run"), lab.BPFFS, *cgroup_roots())
    found = [str(path) for place in places for path in place.glob(f"{PREFIX}*")]
    found += [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if PREFIX in line]
    found += [str(path) for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if PREFIX in _text(path)]
    return found


def cgroup_roots() -> list[pathlib.Path]:
    lines = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    return [pathlib.Path(place) for _, place, kind, *_ in lines if kind in ("cgroup", "cgroup2")]


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return ""
