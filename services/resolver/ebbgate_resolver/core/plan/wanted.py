"""Wanted rows, and where they differ from what PLAN holds. Rows ─diff▶ row changes, row by row.

Leg: between Rows and changes. Every row has one writer, which puts it here when it may have changed; only
rows put here, or changed in PLAN, are compared. An egress row that nobody wants isn't a change: it is
`retained` until the engine knows that all sources have let go of it.
"""

from collections.abc import Iterable

from ebbgate_bus.contracts import codec, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core.plan import held


class Wanted:
    """`rows`: subject → payload."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self._touched: set[str] = set()

    def put(self, subject: str, message: Message | None) -> bool:
        """None: the row is absent. Whether this is a change."""
        return self.put_payload(subject, codec.encode(message) if message else b"")

    def put_payload(self, subject: str, payload: bytes) -> bool:
        if self.rows.get(subject, b"") == payload:
            return False
        if payload:
            self.rows[subject] = payload
        else:
            del self.rows[subject]
        self._touched.add(subject)
        return True

    def take_touched(self) -> set[str]:
        touched, self._touched = self._touched, set()
        return touched


class Difference:
    """`changes`: subject → payload (empty: a removal). `retained`: egress rows that only PLAN has."""

    def __init__(self) -> None:
        self.changes: dict[str, bytes] = {}
        self.retained: dict[str, bytes] = {}
        self._largest = 0

    def refresh(self, touched: Iterable[str], wanted: Wanted, plan: held.Held) -> set[str]:
        """Compare the rows of `touched`; scopes in which something began or ceased to be retained."""
        scopes = set()
        for subject in touched:
            new, old = wanted.rows.get(subject, b""), plan.rows.get(subject, b"")
            self.changes.pop(subject, None)
            was_retained = self.retained.pop(subject, None) is not None
            if old and not new and plan.is_egress(subject):
                self.retained[subject] = old
            elif new != old:
                self.changes[subject] = new
            elif new:
                wanted.rows[subject] = old  # equal bytes need be kept but once
            if was_retained != (subject in self.retained):
                scopes.add(subjects.scope_of(subject))
        self._shrink()
        return scopes

    def _shrink(self) -> None:
        """A dictionary that was large stays slow to walk through until it is made anew."""
        self._largest = max(self._largest, len(self.changes))
        if len(self.changes) < self._largest // 4:
            self.changes, self._largest = dict(self.changes.items()), len(self.changes)

    def everything(self, wanted: Wanted, plan: held.Held) -> set[str]:
        """All subjects that may need a comparison after PLAN was read anew."""
        return {*wanted.rows, *plan.rows, *self.changes, *self.retained}
