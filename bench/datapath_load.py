"""One way's figures of one round: streams, round trips, connections, small packets and what they cost.

Clients run on the first core and servers on the second, always: on two cores the scheduler's changes of mind
are otherwise the largest difference between two ways.
"""

import json
import pathlib
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bench import datapath_worlds
from ebbgate_lab import processes, webserver

SOURCE = pathlib.Path(__file__).with_suffix(".c")
ASK_PORT, FLOOD_PORT = "7000", "7001"
CLIENT_CORE, SERVER_CORE = "0", "1"


Load = Callable[[datapath_worlds.World], dict[str, float]]


class Seconds(msgspec.Struct, frozen=True):
    """How long each load lasts."""

    stream: int = 2
    small: float = 1.5


class Measure(msgspec.Struct, frozen=True):
    """`more_is_better`: whether a ratio above 1 is an advantage."""

    key: str
    title: str
    unit: str
    more_is_better: bool = True


MEASURES = (
    Measure("tcp1", "TCP, 1 stream", "Gbit/s"),
    Measure("tcp8", "TCP, 8 streams", "Gbit/s"),
    Measure("cubic", "TCP, 1 stream, CUBIC", "Gbit/s"),
    Measure("p50", "round trip, p50", "µs", more_is_better=False),
    Measure("p99", "round trip, p99", "µs", more_is_better=False),
    Measure("connections", "new connections", "1/s"),
    Measure("packets", "64-byte datagrams received", "1/s"),
    Measure("cpu", "CPU per datagram", "µs", more_is_better=False),
)


def build(folder: pathlib.Path) -> pathlib.Path:
    """The compiled load program."""
    program = folder / "datapath_load"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["clang", "-O2", "-Wall", "-Werror", "-o", str(program), str(SOURCE)], check=True)
    return program


def measures(load: pathlib.Path, seconds: Seconds) -> tuple[Load, ...]:
    """Each load answers with the values of some of MEASURES' keys, of one world."""
    return (
        lambda world: {"tcp1": _stream(world, 1, seconds.stream)},
        lambda world: {"tcp8": _stream(world, 8, seconds.stream)},
        lambda world: {"cubic": _stream(world, 1, seconds.stream, "--congestion", "cubic")},
        lambda world: _round_trips(world, load, seconds.small),
        lambda world: _connections(world, load, seconds.small),
        lambda world: _flood(world, load, seconds.small),
    )


def _stream(world: datapath_worlds.World, streams: int, seconds: int, *options: str) -> float:
    how = ("-t", str(seconds), "-P", str(streams), *options)
    said = _run(world, "iperf3", "-J", "-A", CLIENT_CORE, "-c", webserver.ADDRESS, *how)
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e9


def _round_trips(world: datapath_worlds.World, load: pathlib.Path, seconds: float) -> dict[str, float]:
    asked = _ask(world, load, "ask", seconds)
    return {"p50": asked["p50_us"], "p99": asked["p99_us"]}


def _connections(world: datapath_worlds.World, load: pathlib.Path, seconds: float) -> dict[str, float]:
    before = _syns_sent_again(world)
    opened = _ask(world, load, "open", seconds)
    again = _syns_sent_again(world) - before
    assert not again, f"{world.title}: {again} SYNs were sent again, so this is no measure of connections"
    return {"connections": opened["count"] / opened["seconds"]}


def _ask(world: datapath_worlds.World, load: pathlib.Path, what: str, seconds: float) -> dict[str, Any]:
    """Fails if the pod is seen outside with another address than this way gives it."""
    said = _run(world, *_on(CLIENT_CORE, load, what, ASK_PORT, str(seconds)))
    assert said["seen_as"] == world.seen_as, f"{world.title}: seen as {said['seen_as']}"
    return said


def _flood(world: datapath_worlds.World, load: pathlib.Path, seconds: float) -> dict[str, float]:
    """CPU: of the sender, with the softirqs it ran, of the receiver and of ksoftirqd, per datagram."""
    command = processes.inside(world.netns("external")) + _on(SERVER_CORE, load, "sink", FLOOD_PORT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        assert sink.stdout.readline() == "ready\n"
        before_ns = sum(_softirq_ns())
        sent = _run(world, *_on(CLIENT_CORE, load, "flood", FLOOD_PORT, str(seconds)))
        received = json.loads(sink.stdout.read())
    cpu_ns = sent["cpu_ns"] + received["cpu_ns"] + sum(_softirq_ns()) - before_ns
    assert received["count"], f"{world.title}: no datagram arrived"
    return {
        "packets": received["count"] / received["seconds"],
        "cpu": cpu_ns / received["count"] / 1000,
    }


def _on(core: str, load: pathlib.Path, what: str, port: str, *seconds: str) -> list[str]:
    return ["taskset", "-c", core, str(load), what, webserver.ADDRESS, port, *seconds]


def _run(world: datapath_worlds.World, *command: str) -> dict[str, Any]:
    done = processes.run(world.netns(datapath_worlds.POD), *command, timeout_s=60)
    assert done.returncode == 0, f"{world.title}: {' '.join(command)}: {done.stderr or done.stdout}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _syns_sent_again(world: datapath_worlds.World) -> int:
    """Of the pod, since it was made: a loss that would look like a slow connection."""
    done = processes.run(world.netns(datapath_worlds.POD), "cat", "/proc/net/netstat")
    names, values = (line.split() for line in done.stdout.splitlines()[:2])
    return int(dict(zip(names, values, strict=True))["TCPSynRetrans"])


def _softirq_ns() -> Iterator[int]:
    for core in (CLIENT_CORE, SERVER_CORE):
        found = subprocess.run(
            ["pgrep", "-x", f"ksoftirqd/{core}"], capture_output=True, text=True, check=True
        )
        yield int(pathlib.Path(f"/proc/{found.stdout.strip()}/schedstat").read_text().split()[0])
