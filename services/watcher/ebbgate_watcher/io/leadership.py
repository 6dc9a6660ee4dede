"""Who publishes. Several watchers may run against one bus; the one that holds the Lease publishes, the others
list and watch and wait (`io.election`). A directory has no Lease, and whoever reads it publishes.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from ebbgate_watcher.core import inputs

Note = Callable[[Sequence[inputs.Input]], None]
"""Hands over what is to be said of the Lease, without waiting: a renewal can't wait for a step."""


class Leadership(Protocol):
    """`leading`: may we publish? `reachable`: could we, once it is our turn? It stays so while the API server
    is away: nobody else would get an answer.
    """

    @property
    def leading(self) -> bool: ...
    @property
    def reachable(self) -> bool: ...

    async def run(self, note: Note) -> None: ...

    async def confirm(self) -> None:
        """Ask again now; afterwards `leading` is as fresh as it gets."""

    async def release(self) -> None: ...


class Alone:
    """There is nobody else."""

    leading = True
    reachable = True

    async def run(self, note: Note) -> None:
        return

    async def confirm(self) -> None:
        return

    async def release(self) -> None:
        return
