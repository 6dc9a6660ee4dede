"""The plain `nats` tool as docs/bus.md tells to use it: each of its commands, on a bus with a fact, a row and
a verdict, which must be said as they were published.
"""

import asyncio
import pathlib
from typing import Any

from ebbgate_bus.contracts import reports, subjects
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import connection, jetstream, publisher, tracing
from tests.docs import register, shell

from .test_cli_tap import POD, ROW, ROW_SUBJECT, say, until_kept
from .test_credentials import Made

VERDICT = reports.Verdict(policy="egress-sample", uid="2")
WITHIN_S = 20.0


class Speaker:
    """Says the three again and again, as who listens hears only what comes while he does."""

    def __init__(self, *buses: connection.Bus) -> None:
        self._of_facts, self._of_plan = publisher.Publisher(buses[0]), publisher.Publisher(buses[-1])

    async def start(self) -> None:
        for each in {self._of_facts, self._of_plan}:
            await each.start()

    async def say(self) -> None:
        await say(self._of_facts, subjects.fact("pod", "default", "a"), POD, tracing.headers())
        await say(self._of_plan, ROW_SUBJECT, ROW, tracing.headers())
        await say(self._of_plan, subjects.verdict("egress-sample"), VERDICT, tracing.headers())

    async def until_typed(self, typist: shell.Shell) -> None:
        for command in typist.commands:
            typing = asyncio.create_task(asyncio.to_thread(typist.type, command, within_s=WITHIN_S))
            while not typing.done():
                if typist.commands[command].exits is None:
                    await self.say()
                await asyncio.wait([typing], timeout=0.1)
            await typing


async def test_what_the_page_says_of_it_works(
    server: Any, bus: connection.Bus, tmp_path: pathlib.Path
) -> None:
    speaker = Speaker(bus)
    await speaker.start()
    await speaker.say()
    await until_kept(bus, 3)
    environment = {"NATS_URL": server.url}
    await speaker.until_typed(shell.Shell(register.BUS, tmp_path, environment=environment, programs=["nats"]))


async def test_what_it_says_for_a_bus_with_credentials_works(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "bus"
    folder.mkdir()
    made = Made(folder)
    await made.make()
    made.start()
    try:
        watcher = await made.connect(Principal(Role.WATCHER))
        resolver = await made.connect(Principal(Role.RESOLVER))
        await jetstream.ensure_streams(resolver)
        speaker = Speaker(watcher, resolver)
        await speaker.start()
        await speaker.say()
        await speaker.until_typed(
            shell.Shell(register.SECURED, tmp_path, environment={"NATS_URL": made.url}, programs=["nats"])
        )
        await watcher.close()
        await resolver.close()
    finally:
        made.process.kill()
