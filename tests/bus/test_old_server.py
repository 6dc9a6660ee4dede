"""A nats-server from before atomic batches: nothing is stored on it, and everybody says why, until it is
upgraded.
"""

import asyncio
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from ebbgate_bus.runtime import connection, jetstream
from ebbgate_lab import processes

from .conftest import Server
from .test_fences import free_port

OLD = pathlib.Path(__file__).parents[2] / "build/nats-too-old/bin/nats-server"
SAID = "is too old to fence atomic batches: 2.12.1 or newer is needed"
WITHIN_S = 20.0


def asked(port: int) -> str:
    command = ["curl", "-s", "--max-time", "5", f"http://127.0.0.1:{port}/readyz"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def status(url: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ebbgate_cli", "status", "--nats", url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def until(holds: Callable[[str], bool], port: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not holds(asked(port)):
            await asyncio.sleep(0.05)


@pytest.fixture
def server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Not started."""
    monkeypatch.setenv("NATS_SERVER", str(OLD))
    return Server(tmp_path)


async def test_services_wait_for_its_upgrade_and_say_so(
    server: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    arguments = {"watcher": ("--source", "directory", "--path", str(manifests)), "resolver": ()}
    ports = {name: free_port() for name in arguments}
    services = []
    try:
        for name, others in arguments.items():
            usual = ("--nats", server.url, "--health-port", str(ports[name]))
            command = processes.module(f"ebbgate_{name}", *usual, *others)
            services.append(processes.Process(name, command, log=tmp_path / f"{name}.log"))
            services[-1].start()
        for port in ports.values():
            await until(lambda told: SAID in told, port)
        told = status(server.url)
        assert told.returncode == 1, told.stderr
        assert SAID in " ".join(told.stdout.split())
        bus = await connection.connect(server.url, name="test")
        assert (await jetstream.request(bus, "STREAM.NAMES", {}))["total"] == 0
        await bus.close()
        server.kill()
        monkeypatch.delenv("NATS_SERVER")
        server.process = processes.nats_server(tmp_path, host="127.0.0.1", port=server.port)
        server.start()
        for port in ports.values():
            await until(lambda told: told == "ok\n", port)
    finally:
        for service in services:
            service.kill()
        server.kill()
