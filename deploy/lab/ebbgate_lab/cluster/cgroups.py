"""A node's cgroup in each hierarchy: its daemons beside its pods, so that all of a node can be found, and
ended.

Who is in a cgroup named after a cluster's prefix belongs to that cluster; so what a crashed run left is found
without a list of pids. Both layouts of cgroups are known: one hierarchy per controller, or one in all.
"""

import contextlib
import os
import pathlib
import signal
import time

DAEMONS = "daemons"
GONE_WITHIN_S = 20.0


def ensure(name: str) -> None:
    """The cgroup `name`, with one for daemons in it."""
    for root in _roots():
        for folder in (root / name, root / name / DAEMONS):
            _delegate(folder.parent)
            folder.mkdir(exist_ok=True)
            _inherit(folder)


def join(name: str) -> None:
    """Move the calling process among the daemons of `name`."""
    for root in _roots():
        (root / name / DAEMONS / "cgroup.procs").write_text("0")


def member(prefix: str, name: str) -> int:
    """A process in the cgroup `name`, wherever that is below those that begin with `prefix`."""
    for root in _roots():
        for folder in root.glob(f"{prefix}*/**/{name}"):
            for parent, _, _ in os.walk(folder):
                for pid in _members(pathlib.Path(parent)):
                    return pid
    raise LookupError(f"nothing runs in {name}")


def remove(prefix: str) -> None:
    """All cgroups whose names begin with `prefix`, and whatever runs in them. Raises TimeoutError."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while left := [folder for root in _roots() for folder in root.glob(f"{prefix}*") if folder.is_dir()]:
        for folder in left:
            _end(folder)
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups are still in use: {', '.join(map(str, left))}")
        time.sleep(0.02)


def _end(folder: pathlib.Path) -> None:
    """Kill what is in it, and remove what is empty, leaves first. What is still dying needs another try."""
    for parent, _, _ in os.walk(folder, topdown=False):
        for pid in _members(pathlib.Path(parent)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.rmdir(parent)


def _members(folder: pathlib.Path) -> list[int]:
    """Pids of this PID namespace only: 0 would be a process of another one, and kill(0) us."""
    try:
        return [pid for pid in map(int, (folder / "cgroup.procs").read_text().split()) if pid]
    except OSError:
        return []


def _roots() -> list[pathlib.Path]:
    """Of both layouts: runc uses the new one beside the old ones, where both are mounted."""
    mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    return [pathlib.Path(place) for _, place, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def _delegate(folder: pathlib.Path) -> None:
    """In one hierarchy for all, children have only the controllers that their parent gives them."""
    controllers = folder / "cgroup.controllers"
    if controllers.exists():
        given = " ".join(f"+{each}" for each in controllers.read_text().split())
        (folder / "cgroup.subtree_control").write_text(given)


def _inherit(folder: pathlib.Path) -> None:
    """A cpuset of the old layout begins empty, and nothing may run in it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (folder / name).exists() and not (folder / name).read_text().strip():
            (folder / name).write_text((folder.parent / name).read_text())
