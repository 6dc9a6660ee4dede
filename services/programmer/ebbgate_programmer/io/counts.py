"""Counters of the BPF maps and of conntrack, summed over CPUs. Reads, and takes out what nobody asks for."""

import contextlib
import os
import pathlib
import struct
from collections.abc import Iterable, Mapping

from ebbgate_bus.contracts.reports import Traffic
from ebbgate_programmer.core import layout, traffic
from ebbgate_programmer.io import bpf, objects

CONNTRACK = pathlib.Path("/proc/thread-self/net/stat/nf_conntrack")
_POSSIBLE = pathlib.Path("/sys/devices/system/cpu/possible")


def read(pins: objects.Pins, slots: Iterable[int], guards: Mapping[str, int]) -> traffic.Counted:
    cpus = _processors()
    with (
        bpf.opened(pins.path("counters")) as counters,
        bpf.opened(pins.path("traffic")) as groups,
        bpf.opened(pins.path("slots")) as of_slots,
    ):
        return traffic.Counted(
            counters={name: _number(counters, n, cpus) for n, name in enumerate(layout.COUNTERS)},
            groups={
                layout.TRAFFIC_KEY.unpack(key)[:2]: _sum(value)
                for key, value in bpf.entries(groups, copies=cpus).items()
            },
            slots={slot: _slot(of_slots, slot, cpus) for slot in slots},
            guards=guards,
            refused=_refused(),
        )


def forget(pins: objects.Pins, keys: Iterable[traffic.Key]) -> None:
    with bpf.opened(pins.path("traffic")) as descriptor:
        for key in keys:
            bpf.remove(descriptor, layout.TRAFFIC_KEY.pack(*key, 0))


def _number(descriptor: int, number: int, cpus: int) -> int:
    held = bpf.look_up(descriptor, layout.NUMBER.pack(number), layout.COUNT.size * cpus)
    return sum(struct.unpack(f"={cpus}Q", held))


def _slot(descriptor: int, slot: int, cpus: int) -> Traffic:
    return _sum(bpf.look_up(descriptor, layout.NUMBER.pack(slot), layout.TRAFFIC.size * cpus))


def _sum(copies: bytes) -> Traffic:
    return Traffic(*map(sum, zip(*layout.TRAFFIC.iter_unpack(copies), strict=True)))


def _refused() -> int:
    """Connections that conntrack couldn't insert: no tuple was free, or no room."""
    found = conntrack()
    return found.get("insert_failed", 0) + found.get("drop", 0)


def conntrack() -> dict[str, int]:
    """Its counters by name, summed over CPUs; none if there are none."""
    try:
        head, *lines = CONNTRACK.read_text().splitlines()
    except OSError:
        return {}
    sums = (sum(int(number, 16) for number in column) for column in zip(*map(str.split, lines), strict=True))
    return dict(zip(head.split(), sums, strict=True))


def _processors() -> int:
    """How many CPUs `0-3,8` can be: per-CPU values have a place for each."""
    with contextlib.suppress(FileNotFoundError):
        return int(_POSSIBLE.read_text().strip().split(",")[-1].split("-")[-1]) + 1
    return os.cpu_count() or 1
