"""In the middle of an upgrade: services of two versions, messages in forms that one of them doesn't know."""

import asyncio
import json
import subprocess
import sys

from ebbgate_bus.contracts import codec, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import publisher, service
from ebbgate_lab import processes

from .test_resolver_shell import World, pod, running, world

__all__ = ["world"]  # the fixture
OTHER = "9.9.9"
AS_OTHER = (
    "import runpy; from ebbgate_bus.runtime import service; "
    f"service.VERSION = {OTHER!r}; runpy.run_module('ebbgate_resolver', run_name='__main__')"
)


def of_other_version(world: World) -> processes.Process:
    command = [sys.executable, "-c", AS_OTHER, "--nats", world.server.url, "--name", "other"]
    return processes.Process("other", command, log=world.folder / "other.log")


async def status(world: World) -> str:
    command = [sys.executable, "-m", "ebbgate_cli", "status", "--nats", world.server.url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split())


async def test_two_versions_at_once_are_told_and_the_other_takes_over_what_is_there(world: World) -> None:
    with running(world.resolver("one")) as one:
        await world.endpoints(1)
        with running(of_other_version(world)):
            async with asyncio.timeout(20):
                while f"several versions are running: {service.VERSION}, {OTHER}" not in await status(world):
                    await asyncio.sleep(0.2)
            before = await world.sequence()
            one.stop()
            await world.publish({subjects.fact("pod", "default", "pod-2"): pod(2)})
            await world.endpoints(2)
            # A row, its node's Commit and the writer's row; and a claim, if that wasn't the other's before.
            assert await world.sequence() - before in (3, 4)


async def test_what_a_newer_version_says_in_a_form_of_its_own_is_named_and_changes_nothing(
    world: World,
) -> None:
    """What only has more fields is read as ever; another form of an object leaves it as it was."""
    said = publisher.Publisher(world.bus)
    await said.start()

    def outgoing(number: int, **more: object) -> Outgoing:
        fields = json.loads(codec.encode(pod(number))) | more
        return Outgoing(subjects.fact("pod", "default", f"pod-{number}"), json.dumps(fields).encode())

    with running(world.resolver("one")) as one:
        await world.endpoints(1)
        await said.publish([outgoing(1, v=2, ips={"ipv4": []}), outgoing(2, colour="blue")])
        await world.endpoints(2)
        lines = [json.loads(line) for line in one.log.read_text().splitlines()]
        (told,) = [line for line in lines if line["event"] == "message.unreadable"]
        unknown = subjects.fact("pod", "default", "pod-1")
        reason = f"{unknown}: major version 2, and only 1 is known here"
        assert (told["level"], told["reason"]) == ("warning", reason)
        assert one.running
