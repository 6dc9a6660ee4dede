"""What the bus says, kept up to date, so that the lab can wait for a state instead of for time to pass."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

from ebbgate_bus.contracts import codec, facts, reports, rows, streams, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import connection, follower

M = TypeVar("M", bound=Message)


class Observer:
    """Follows all streams. A predicate over it is looked at again after each change."""

    def __init__(self, bus: connection.Bus) -> None:
        self._bus = bus
        self._held: dict[str, dict[str, Message]] = {stream.name: {} for stream in streams.STATE}
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._follow(stream)) for stream in streams.STATE]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def until(self, holds: Callable[["Observer"], bool], *, what: str, within_s: float = 15.0) -> None:
        """Return once `holds`. Raises TimeoutError that says `what` was waited for."""
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: holds(self))
        except TimeoutError as error:
            raise TimeoutError(f"waited {within_s:.0f} s in vain: {what}") from error

    def get(self, subject: str, kind: type[M]) -> M | None:
        """The message stored under `subject`, if there is one."""
        for held in self._held.values():
            if subject in held:
                return cast(M, held[subject])
        return None

    def under(self, prefix: str) -> dict[str, Message]:
        """All messages whose subject begins with `prefix`."""
        return {s: m for held in self._held.values() for s, m in held.items() if s.startswith(prefix)}

    def verdict(self, policy: str) -> reports.Verdict | None:
        return self.get(subjects.verdict(policy), reports.Verdict)

    def applied(self, node: str) -> reports.Applied:
        """The node's last Applied; an empty one before the first."""
        return self.get(subjects.status(node), reports.Applied) or reports.Applied(node=node)

    def obeyed(self, *nodes: str) -> bool:
        """Have `nodes` applied the latest Commits?"""
        shared = self.get(subjects.commit(subjects.ALL_SCOPE), rows.Commit)
        return shared is not None and all(self._obeys(node, shared.revision) for node in nodes)

    def _obeys(self, node: str, all_revision: int) -> bool:
        own = self.get(subjects.commit(subjects.node_scope(node)), rows.Commit)
        applied = self.applied(node)
        return applied.all_revision >= all_revision and (own is None or applied.node_revision >= own.revision)

    async def _follow(self, stream: streams.Stream) -> None:
        held = self._held[stream.name]
        async for batch in follower.Follower(self._bus, stream, list(stream.subjects)).batches():
            if batch.replaced:
                held.clear()
            for message in batch.messages:
                decoded = codec.decode(message.subject, message.payload)
                if isinstance(decoded, facts.Gone):
                    held.pop(message.subject, None)
                else:
                    held[message.subject] = decoded
            async with self._changed:
                self._changed.notify_all()
