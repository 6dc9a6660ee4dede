"""Three real nats-servers whose streams have three replicas, with the interface of the single `Server`.

`kill` kills the leader of PLAN, or of whatever stream is named, and `start` brings it back.
"""

import asyncio
import contextlib
import json
import pathlib
import time
import urllib.request

import nats.errors

from ebbgate_bus.contracts import streams
from ebbgate_bus.runtime import connection, jetstream
from ebbgate_lab import processes

from .test_fences import free_port

SERVERS = 3
WITHIN_S = 30.0


class Cluster:
    """`security`: lines of each server's configuration. `routes`: of its part on the cluster."""

    def __init__(self, folder: pathlib.Path, *, security: str = "", routes: str = "") -> None:
        self._folder, self._security, self._among = folder, security, routes
        self._ports = [(free_port(), free_port(), free_port()) for _ in range(SERVERS)]
        self.url = ",".join(f"nats://127.0.0.1:{port}" for port, *_ in self._ports)
        self._processes = [self._process(number) for number in range(SERVERS)]

    def _process(self, number: int) -> processes.Process:
        port, routing, http = self._ports[number]
        routes = ", ".join(f'"nats-route://127.0.0.1:{each}"' for _, each, _ in self._ports)
        path = self._folder / f"server-{number}.conf"
        path.write_text(
            f'server_name: s{number}\nlisten: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{http}"\n'
            f'max_payload: 4MB\njetstream {{ store_dir: "{self._folder / f"store-{number}"}" }}\n'
            f'cluster {{ name: test, listen: "127.0.0.1:{routing}", routes: [{routes}]\n{self._among}\n}}\n'
            f"{self._security}"
        )
        command = [processes.nats_binary(), "-c", str(path)]
        return processes.Process("nats-server", command, log=path.with_suffix(".log"))

    def start(self) -> None:
        """Those that don't run."""
        started = [number for number, process in enumerate(self._processes) if not process.running]
        for number in started:
            self._processes[number].start()
        for number in started:
            processes.until_listening("127.0.0.1", self._ports[number][0])

    def kill(self, stream: str = "PLAN") -> None:
        self._processes[self._until_led(stream)].kill()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()

    def _until_led(self, stream: str) -> int:
        deadline = time.monotonic() + WITHIN_S
        while not (name := self._leader(stream)):
            assert time.monotonic() < deadline, f"nobody leads {stream}"
            time.sleep(0.05)
        return int(name.removeprefix("s"))

    def _leader(self, stream: str) -> str:
        for _, _, http in self._ports:
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{http}/jsz?streams=1&accounts=1"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    for account in json.load(answer).get("account_details") or ():
                        for each in account.get("stream_detail") or ():
                            if each["name"] == stream and each.get("cluster", {}).get("leader"):
                                return str(each["cluster"]["leader"])
        return ""


async def remove_streams(bus: connection.Bus) -> None:
    """What a test before left. Servers that have just come up may not answer yet."""
    deadline = time.monotonic() + WITHIN_S
    for stream in streams.STREAMS:
        while True:
            try:
                await jetstream.request(bus, f"STREAM.DELETE.{stream.name}", {})
            except jetstream.ApiError as error:
                if error.code == jetstream.NOT_FOUND:
                    break
            except nats.errors.Error:
                pass
            assert time.monotonic() < deadline, f"{stream.name} can't be removed"
            await asyncio.sleep(0.05)
