"""Noted: what is the case and was said, by source, so that it is said once when it begins.

Leg: beside Inventory → Rows, for the shell's log. A step says what its sources have to say now; only what
they didn't say before is fresh.
"""

from collections.abc import Sequence

from ebbgate_resolver.core import answers

Source = tuple[str, ...]
"""What a note is about. Notes come out in the order of their sources."""


class Noted:
    def __init__(self) -> None:
        self._said: dict[Source, tuple[answers.Note, ...]] = {}
        self._before: dict[Source, tuple[answers.Note, ...]] = {}

    def say(self, source: Source, notes: Sequence[answers.Note]) -> None:
        """This, and nothing else, is to be said of the source now."""
        if notes or source in self._said:
            self._before.setdefault(source, self._said.pop(source, ()))
            if notes:
                self._said[source] = tuple(notes)

    def take_fresh(self) -> tuple[answers.Note, ...]:
        """What began to be the case since this was last called."""
        fresh = [
            note
            for source, before in sorted(self._before.items())
            for note in self._said.get(source, ())
            if note not in before
        ]
        self._before.clear()
        return tuple(fresh)
