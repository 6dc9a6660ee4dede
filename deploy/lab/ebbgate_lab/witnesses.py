"""Who saw a write to the kernel? Watched from outside Ebbgate: netlink monitors and ids of BPF objects.

Each watch ends with a write of its own, which the monitors must show: so a monitor that was deaf, or late,
fails the check instead of passing it.
"""

import contextlib
import functools
import json
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator

from ebbgate_lab import processes

TIMEOUT_S = 5.0
SENTINEL_TABLE = "ebb_sentinel"
SENTINEL_ROUTE = "192.0.2.1"
"""TEST-NET-1: nobody's address."""
MONITORS = (["nft", "monitor"], ["ip", "monitor", "link", "address", "route", "rule"])


class Watch:
    """What the monitors of one namespace showed. `seen` is complete once the watch has ended."""

    def __init__(self) -> None:
        self.seen: list[str] = []


@contextlib.contextmanager
def kernel_writes(netns: str, folder: pathlib.Path) -> Iterator[Watch]:
    """Watch nftables, links, addresses, routes and rules of `netns` while the block runs."""
    watch = Watch()
    monitors = []
    for number, command in enumerate(MONITORS):
        log = folder / f"{netns}.monitor{number}"
        log.write_bytes(b"")
        monitors.append(processes.Process(f"monitor{number}", command, log=log, netns=netns))
    try:
        for monitor in monitors:
            monitor.start()
            _until(functools.partial(_listens, monitor.pid), f"{monitor.name} listens")
        yield watch
        _write_sentinels(netns)
        for monitor, sentinel in zip(monitors, (SENTINEL_TABLE, SENTINEL_ROUTE), strict=True):
            _until(functools.partial(_told, monitor.log, sentinel), f"{monitor.name} told of {sentinel}")
            watch.seen += _others(monitor.log.read_text(), sentinel)
    finally:
        for monitor in monitors:
            monitor.kill()


def bpf_ids(pin_path: pathlib.Path) -> dict[str, int]:
    """Ids of the programs, maps and links pinned under `pin_path`, as bpftool reads them."""
    return {
        str(pin.relative_to(pin_path)): _id_of(pin) for pin in sorted(pin_path.rglob("*")) if not pin.is_dir()
    }


def _id_of(pin: pathlib.Path) -> int:
    for kind in ("prog", "map", "link"):
        done = subprocess.run(
            ["bpftool", "-j", kind, "show", "pinned", str(pin)], check=False, capture_output=True, text=True
        )
        found = json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else {}
        if "id" in found:
            return int(found["id"])
    raise AssertionError(f"{pin} is no program, map or link")


def _listens(pid: int) -> bool:
    """Has the process a netlink socket that is subscribed to a group?"""
    lines = pathlib.Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]
    return any(fields[2] == str(pid) and int(fields[3], 16) for fields in map(str.split, lines))


def _write_sentinels(netns: str) -> None:
    for command in (
        ["nft", "add", "table", "ip", SENTINEL_TABLE],
        ["nft", "delete", "table", "ip", SENTINEL_TABLE],
        ["ip", "route", "add", "blackhole", SENTINEL_ROUTE],
        ["ip", "route", "del", "blackhole", SENTINEL_ROUTE],
    ):
        done = processes.run(netns, *command)
        assert done.returncode == 0, done.stderr


def _told(log: pathlib.Path, sentinel: str) -> bool:
    """Has the monitor shown both the sentinel's coming and its going?"""
    return log.read_text().count(sentinel) >= 2


def _others(text: str, sentinel: str) -> list[str]:
    """The lines about anything but the sentinel. "# new generation" only ends a transaction shown before
    it.
    """
    return [line for line in text.splitlines() if sentinel not in line and not line.startswith("# new gen")]


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {TIMEOUT_S:.0f} s it isn't so that {what}")
        time.sleep(0.01)
