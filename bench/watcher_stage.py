"""What the watcher's benchmarks run: nats-server, the synthetic API server or a real one, watchers, rivals.

Everything is a process of its own, so that its CPU and memory are its own, as the kernel counts them.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from nats.aio.msg import Msg

from bench.watcher_api import STAMP
from ebbgate_bus.contracts import codec, envelope, facts, subjects
from ebbgate_bus.runtime import connection, jetstream
from ebbgate_lab import apiserver, processes

WITHIN_S = 600.0
HANDS = 4
NAMESPACE = "crowd"


class Run(msgspec.Struct, frozen=True):
    """A process from its start until its facts were acknowledged. `mb`: the most it ever had resident."""

    seconds: float
    cpu_s: float
    mb: float


@contextlib.contextmanager
def in_memory() -> Iterator[pathlib.Path]:
    """A folder that no disk is behind."""
    with tempfile.TemporaryDirectory(prefix="ebbgate-bench-", dir="/dev/shm") as folder:
        yield pathlib.Path(folder)


class Latencies(msgspec.Struct, frozen=True):
    """To the fact on the bus (live), in ms: from the change itself, and from when the watcher saw it."""

    from_event: list[float]
    from_seen: list[float]


class Bus:
    """A nats-server with empty streams."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = apiserver.free_ports()[0]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process = processes.nats_server(folder, host="127.0.0.1", port=self.port)

    @contextlib.contextmanager
    def running(self) -> Iterator["Bus"]:
        self.process.start()
        try:
            processes.until_listening("127.0.0.1", self.port)
            asyncio.run(self._ensure_streams())
            yield self
        finally:
            self.process.stop()

    async def _ensure_streams(self) -> None:
        bus = await connection.connect(self.url, name="bench")
        await jetstream.ensure_streams(bus)
        await bus.close()


class Synthetic:
    """`bench.watcher_api` with so many pods, and a kubeconfig for it."""

    def __init__(self, folder: pathlib.Path, pods: int) -> None:
        self.pods = pods
        self.port = apiserver.free_ports()[0]
        self.kubeconfig = folder / f"synthetic-{pods}.kubeconfig"
        certificate, key = folder / "synthetic.crt", folder / "synthetic.key"
        _certify(certificate, key)
        self.kubeconfig.write_text(_kubeconfig(self.port, certificate))
        self._arguments = [
            *(sys.executable, "-m", "bench.watcher_api", "--port", str(self.port), "--pods", str(pods)),
            *("--certificate", str(certificate), "--key", str(key)),
        ]

    @contextlib.contextmanager
    def running(self) -> Iterator["Synthetic"]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(self._arguments, text=True, **pipes) as self._child:  # type: ignore[call-overload]
            try:
                processes.until_listening("127.0.0.1", self.port)
                yield self
            finally:
                self._child.kill()

    def change(self, rate: int, seconds: float) -> None:
        """So many pods per second changed; returns when that is over."""
        self._child.stdin.write(f"{rate} {seconds}\n")
        self._child.stdin.flush()
        assert self._child.stdout.readline() == "done\n"


def watcher(bus: Bus, kubeconfig: pathlib.Path, log: pathlib.Path) -> processes.Process:
    arguments = [
        *("--nats", bus.url, "--name", "bench", "--source", "kubernetes"),
        *("--kubeconfig", str(kubeconfig), "--lease", ""),
    ]
    return processes.Process("watcher", processes.module("ebbgate_watcher", *arguments), log=log)


def rival(way: str, bus: Bus, kubeconfig: pathlib.Path, log: pathlib.Path, *, pods: int) -> processes.Process:
    arguments = [way, "--kubeconfig", str(kubeconfig), "--nats", bus.url, "--pods", str(pods)]
    return processes.Process(way, processes.module("bench.watcher_rivals", *arguments), log=log)


def run(process: processes.Process, word: str) -> Run:
    """Start it, and wait until its log says `word` (once more than before)."""
    before = _count(process.log, word)
    began = time.monotonic()
    process.start()
    while _count(process.log, word) == before:
        if not process.running or time.monotonic() - began > WITHIN_S:
            raise RuntimeError(f"{process.name} ended, or isn't done: {process.log.read_text()[-2000:]}")
        time.sleep(0.01)
    return Run(time.monotonic() - began, cpu_s(process.pid), peak_mb(process.pid))


def create_pods(api: apiserver.ApiServer, count: int) -> None:
    """Through the real API, by several hands."""
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})

    def work(hand: int) -> None:
        with contextlib.closing(api.client_of("admin")) as client:
            for number in range(hand, count, HANDS):
                client.call("POST", apiserver.collection("v1", "Pod", NAMESPACE), _pod(number))

    with concurrent.futures.ThreadPoolExecutor(HANDS) as hands:
        list(hands.map(work, range(HANDS)))


def change_pods(api: apiserver.ApiServer, rate: int, seconds: float) -> list[float]:
    """So many pods per second relabelled with the time; how long each answer of the API took, ms."""
    took_ms = []
    with contextlib.closing(api.client_of("admin")) as client:
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            manifest = _pod(number)
            path = f"{apiserver.location(manifest)}?fieldManager=bench&force=true"
            stamp = time.time_ns()
            manifest["metadata"] |= {"labels": {STAMP: str(stamp)}}
            client.call("PATCH", path, manifest)
            took_ms.append((time.time_ns() - stamp) / 1e6)
    return took_ms


async def latencies(url: str, change: Callable[[], None], expected: int) -> Latencies:
    """Of the pods that have a time in their label, while `change` runs."""
    found = Latencies([], [])
    complete = asyncio.Event()
    bus = await connection.connect(url, name="bench")

    async def take(message: Msg) -> None:
        now_ns = time.time_ns()
        pod = codec.decode(subjects.stored(message.subject), message.data)
        if isinstance(pod, facts.Pod) and (stamp := int(pod.labels.get(STAMP, "0"))):
            found.from_event.append((now_ns - stamp) / 1e6)
            found.from_seen.append((now_ns - int((message.headers or {}).get(envelope.SEEN, stamp))) / 1e6)
            if len(found.from_event) >= expected:
                complete.set()

    await bus.subscribe(f"{subjects.LIVE}.fact.pod.>", cb=take)
    await bus.flush()
    await asyncio.to_thread(change)
    await asyncio.wait_for(complete.wait(), WITHIN_S)
    await bus.close()
    return found


async def until_facts(url: str, count: int, create: Callable[[], None]) -> float:
    """Seconds from the start of `create` until so many facts of pods of NAMESPACE were on the bus."""
    seen: set[str] = set()
    complete = asyncio.Event()
    bus = await connection.connect(url, name="bench")

    async def take(message: Msg) -> None:
        seen.add(message.subject)
        if len(seen) >= count:
            complete.set()

    await bus.subscribe(f"{subjects.LIVE}.fact.pod.{NAMESPACE}.>", cb=take)
    await bus.flush()
    began = time.monotonic()
    await asyncio.to_thread(create)
    await asyncio.wait_for(complete.wait(), WITHIN_S)
    await bus.close()
    return time.monotonic() - began


def cpu_s(pid: int) -> float:
    """Of all its threads, until now."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def _count(log: pathlib.Path, word: str) -> int:
    return log.read_text().count(word) if log.exists() else 0


def _certify(certificate: pathlib.Path, key: pathlib.Path) -> None:
    subject = ("-subj", "/CN=synthetic", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", str(key), "-out", str(certificate))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject]
    subprocess.run(command, check=True, capture_output=True)


def _kubeconfig(port: int, authority: pathlib.Path) -> str:
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "synthetic", "cluster": cluster}],
        "users": [{"name": "bench", "user": {"token": "any"}}],
        "contexts": [{"name": "synthetic", "context": {"cluster": "synthetic", "user": "bench"}}],
        "current-context": "synthetic",
    }
    return json.dumps(content)


def _pod(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{number}", "namespace": NAMESPACE, "labels": {"app": f"a{number % 100}"}},
        "spec": {"nodeName": f"n{number % 500}", "containers": [{"name": "c", "image": "x"}]},
    }
