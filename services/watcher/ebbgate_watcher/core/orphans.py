"""Orphans: what nodes said of themselves and nobody takes back, since the node is no more.

A programmer publishes its NodeNetwork and its Applied, and dies with its node. Both are ignored without a
Node fact anyway; the watcher removes them so that the streams don't grow for ever. Never at once: a new
node's programmer may be faster than the news of its Node, and a Node that is replaced comes back under its
name.
"""

from collections.abc import Container

from ebbgate_bus.contracts import subjects
from ebbgate_watcher.core import inputs

GRACE_S = 60.0
"""How long a report may be without its Node: longer than the API is usually away."""


class Orphans:
    """`mirrored`: NodeNetwork facts come from this watcher's source, and aren't orphans of anybody."""

    def __init__(self, *, mirrored: bool = False) -> None:
        self._mirrored = mirrored
        self._reports: dict[str, set[str]] = {}
        self._since: dict[str, float] = {}
        self._changed = False

    def look_again(self) -> None:
        """Nodes came or went."""
        self._changed = True

    def take(self, reported: inputs.Reported) -> None:
        if self._mirrored and reported.kind == "fact.nodenetwork":
            return
        self._changed = True
        reports = self._reports.setdefault(reported.kind, set())
        if reported.replaced:
            reports.clear()
        for message in reported.messages:
            (reports.add if message.payload else reports.discard)(message.subject)

    def due(self, node_facts: Container[str] | None, now: float) -> list[str]:
        """Subjects to be removed now. `node_facts`: subjects of all Nodes, None while they aren't known."""
        if node_facts is None:
            return []
        if self._changed:  # comparing thousands of nodes at each pod event would be most of its cost
            self._changed = False
            self._compare(node_facts, now)
        removed = sorted(subject for subject, since in self._since.items() if now - since >= GRACE_S)
        for subject in removed:
            del self._since[subject]
            for reports in self._reports.values():
                reports.discard(subject)
        return removed

    def _compare(self, node_facts: Container[str], now: float) -> None:
        orphaned = {
            subject
            for reports in self._reports.values()
            for subject in reports
            if _node_fact(subject) not in node_facts
        }
        self._since = {subject: self._since.get(subject, now) for subject in orphaned}

    def wake_at(self) -> float | None:
        return min((since + GRACE_S for since in self._since.values()), default=None)


def _node_fact(subject: str) -> str:
    return f"{subjects.ROOT}.fact.node.{subject.rpartition('.')[2]}"
