"""The Kubernetes source alone, in this process: what it delivers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from ebbgate_watcher.core import course, inputs
from ebbgate_watcher.io import api, kubernetes, tally

WITHIN_S = 20.0


class Heard:
    """What the source delivered."""

    def __init__(self) -> None:
        self.inputs: list[inputs.Input] = []
        self._stirred = asyncio.Event()

    async def deliver(self, arrived: Sequence[inputs.Input]) -> None:
        self.inputs += arrived
        self._stirred.set()

    async def until(self, holds: Callable[[inputs.Input], bool]) -> None:
        """Wait for an input that was not there yet when asked."""
        known = len(self.inputs)
        async with asyncio.timeout(WITHIN_S):
            while not any(map(holds, self.inputs[known:])):
                self._stirred.clear()
                await self._stirred.wait()


@contextlib.asynccontextmanager
async def following(kubeconfig: str | None) -> AsyncIterator[Heard]:
    heard = Heard()
    source = kubernetes.Kubernetes(api.Access(kubeconfig), tally.Tally())
    task = asyncio.ensure_future(source.run(heard.deliver))
    try:
        yield heard
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def broken(each: inputs.Input) -> bool:
    return isinstance(each, inputs.Broken)


def recovered(each: inputs.Input) -> bool:
    return each == inputs.Recovered(course.API, "node")


def listed(each: inputs.Input) -> bool:
    return isinstance(each, inputs.Listed) and each.kind == "node"


def saying(*words: str) -> Callable[[inputs.Input], bool]:
    """A trouble whose reason has all these words."""
    return lambda each: isinstance(each, inputs.Broken) and all(word in each.reason for word in words)


def seen(name: str) -> Callable[[inputs.Input], bool]:
    return lambda each: isinstance(each, inputs.Seen) and each.object.subject.endswith(f".{name}")
