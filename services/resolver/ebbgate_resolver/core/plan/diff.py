"""Wanted rows against held rows: changes. Rows ─diff▶ row changes.

Only changed payloads are changes, so that an unchanged world is silent. An empty payload is a removal.
"""

from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import subjects


class Change(msgspec.Struct, frozen=True, order=True, gc=False):
    subject: str
    payload: bytes

    @property
    def scope(self) -> str:
        """The scope whose Commit counts this row; empty for policies in force."""
        return subjects.scope_of(self.subject)


def changes(wanted: Mapping[str, bytes], held: Mapping[str, bytes]) -> tuple[Change, ...]:
    """Sorted by subject."""
    changed = [
        Change(subject, payload) for subject, payload in wanted.items() if held.get(subject) != payload
    ]
    removed = [Change(subject, b"") for subject in held if subject not in wanted]
    return tuple(sorted(changed + removed))
