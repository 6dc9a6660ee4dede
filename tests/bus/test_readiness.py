"""What keeps a service from its bus is said by its /readyz, in words for people: services as processes."""

import asyncio
import contextlib
import pathlib
from collections.abc import Iterator

import aiohttp
import pytest

from ebbgate_bus.contracts import nkeys
from ebbgate_bus.runtime import keys
from ebbgate_lab import processes

from .test_credentials import Made
from .test_fences import free_port

WITHIN_S = 20.0


class Services:
    """Three of them. A programmer takes the network that it is in; it says the same in the same way."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.key = folder / "own.nk"
        self.key.write_text(keys.make(nkeys.Kind.USER))
        self.ports: dict[str, int] = {}
        self._processes: list[processes.Process] = []

    def start(self, made: Made) -> None:
        issuer = self.folder / "issuer.nk"
        issuer.write_text(keys.make(nkeys.Kind.ACCOUNT))
        nowhere = f"https://127.0.0.1:{free_port()}"
        self._start("resolver", made, "--name", "r")
        self._start("watcher", made, "--source", "directory", "--path", str(self.folder), "--name", "w")
        api = ("--api-url", nowhere, "--api-token", str(issuer), "--api-ca", str(made.ca))
        self._start("usher", made, "serve", "--issuer", str(issuer), *api)

    def _start(self, service: str, made: Made, *arguments: str) -> None:
        port = self.ports[service] = free_port()
        arguments += ("--nats", made.url, "--nats-ca", str(made.ca), "--nats-nkey", str(self.key))
        arguments += ("--health-bind", "127.0.0.1", "--health-port", str(port))
        command = processes.module(f"ebbgate_{service}", *arguments)
        process = processes.Process(service, command, log=self.folder / f"{service}.log")
        process.start()
        self._processes.append(process)

    async def until_all_say(self, reason: str) -> None:
        """And each is not ready."""
        async with aiohttp.ClientSession() as session, asyncio.timeout(WITHIN_S):
            for service, port in self.ports.items():
                said = ""
                while reason not in said:
                    await asyncio.sleep(0.02)
                    with contextlib.suppress(aiohttp.ClientConnectorError):
                        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                            assert answer.status == 503, service
                            said = await answer.text()
                assert said.startswith("the bus isn't reached: ")

    def stop(self) -> None:
        for process in self._processes:
            process.stop()


@pytest.fixture
def made(tmp_path: pathlib.Path) -> Iterator[Made]:
    folder = tmp_path / "made"
    folder.mkdir()
    made = Made(folder)
    yield made
    made.process.kill()


@pytest.fixture
def services(tmp_path: pathlib.Path) -> Iterator[Services]:
    services = Services(tmp_path)
    yield services
    services.stop()


async def test_wrong_credentials(made: Made, services: Services) -> None:
    await made.make()
    made.start()
    services.start(made)
    await services.until_all_say("the server doesn't accept our credentials (Authorization Violation)")


async def test_an_expired_certificate_and_what_comes_after_it(made: Made, services: Services) -> None:
    """The last reason is the one that is said, also when it has been said before."""
    await made.make()
    made.expire()
    made.start()
    services.start(made)
    await services.until_all_say("the server's certificate isn't valid any more")
    made.process.kill()
    await services.until_all_say("Connect call failed")
    made.start()
    await services.until_all_say("the server's certificate isn't valid any more")


async def test_nobody_there(made: Made, services: Services) -> None:
    await made.make()
    services.start(made)
    await services.until_all_say("Connect call failed")
