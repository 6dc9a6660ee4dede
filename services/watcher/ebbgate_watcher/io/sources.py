"""What every source is: something that says what exists, for ever, in `inputs`.

The watcher doesn't know which one it has. A source never ends by itself and never gives up: what it can't see
for now it says by `Broken`, once it can again by `Recovered` or a new list.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ebbgate_watcher.core import inputs

Deliver = Callable[[Sequence[inputs.Input]], Awaitable[None]]
"""Hands inputs to the watcher; waits while it is behind, so that a source can't outrun the bus."""


class Source(Protocol):
    async def run(self, deliver: Deliver) -> None: ...
