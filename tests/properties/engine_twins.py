"""Two engines on one history: the real, incremental one, and the plain one that does everything anew.

Put in the place of `engine.Resolver` it makes any test a comparison of the two: the first step in which they
would write other rows, other Commits or other verdicts, or would say other things, fails.
"""

from collections.abc import Iterable

from ebbgate_bus.contracts import rows
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_resolver.core import answers, engine, inventory
from ebbgate_resolver.core.plan import held
from tests.properties import plain_engine

_Resolver = engine.Resolver
"""The real one, also while a test has put the twins in its place."""


class Twins:
    """As engine.Resolver."""

    def __init__(self, *, cluster_cidrs: tuple[str, ...] = ()) -> None:
        self._real = _Resolver(cluster_cidrs=cluster_cidrs)
        self._plain = plain_engine.PlainResolver(cluster_cidrs=cluster_cidrs)
        self._said: set[str] = set()

    @property
    def epoch(self) -> int:
        return self._real.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._real.epoch = self._plain.epoch = value

    @property
    def live_rows(self) -> dict[str, bytes]:
        return self._real.live_rows

    @property
    def commits(self) -> dict[str, rows.Commit]:
        return self._real.commits

    @property
    def known(self) -> inventory.Inventory:
        return self._real._known

    @property
    def plan(self) -> held.Held:
        return self._real._plan

    def replace_facts(self, messages: Iterable[Stored]) -> None:
        both = list(messages)
        self._real.replace_facts(both)
        self._plain.replace_facts(both)

    def replace_reports(self, messages: Iterable[Stored]) -> None:
        both = list(messages)
        self._real.replace_reports(both)
        self._plain.replace_reports(both)

    def fold(self, messages: Iterable[Stored]) -> None:
        both = list(messages)
        self._real.fold(both)
        self._plain.fold(both)

    def replace_plan(self, messages: Iterable[Stored], now_s: float) -> None:
        both = list(messages)
        self._real.replace_plan(both, now_s)
        self._plain.replace_plan(both, now_s)

    def step(self, now_s: float) -> engine.Step:
        real, plain = self._real.step(now_s), self._plain.step(now_s)
        assert _texts(real.batches) == _texts(plain.batches)
        assert _texts([real.verdicts]) == _texts([plain.verdicts])
        self._compare_rows()
        self._compare_notes(real, plain)
        return real

    def _compare_rows(self) -> None:
        if self._plain.resolution is not None:
            assert self._real._incremental.wanted.rows == self._plain.resolution.wanted

    def _compare_notes(self, real: engine.Step, plain: engine.Step) -> None:
        """Of all there is to say the real one says what wasn't the case at its last step."""
        unreadable = ("message.unreadable", "row.unreadable")
        said = {_note(note) for note in real.notes if note.event not in unreadable}
        now = {_note(note) for note in plain.notes}
        assert said == now - self._said
        self._said = now

    def stored(self, step: engine.Step) -> None:
        self._real.stored(step)
        self._plain.stored(step)


def _texts(batches: Iterable[Iterable[Outgoing]]) -> list[list[tuple[str, bytes]]]:
    return [[(message.subject, message.payload) for message in batch] for batch in batches]


def _note(note: answers.Note) -> str:
    return f"{note.event} {sorted(note.fields.items())}"
