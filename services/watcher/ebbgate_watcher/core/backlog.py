"""The backlog: subjects to be compared with FACT, and in which order their differences are said.

What comes is said before what goes: an address that passes from one pod to another, or a pod from one policy
to another, must not be seen without either. Within each, first touched first said, so that equal histories
publish equally. What is touched again while it waits is said once, as it is then.
"""

import itertools
from collections.abc import Sequence


class Backlog:
    """`seen_ns`: when the bytes behind the last touch arrived; 0: no event is behind it."""

    def __init__(self) -> None:
        self._coming: dict[str, int] = {}
        self._going: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._coming or self._going)

    def touch(self, subject: str, seen_ns: int, *, exists: bool) -> None:
        (self._going if exists else self._coming).pop(subject, None)
        (self._coming if exists else self._going)[subject] = seen_ns

    def clear(self) -> None:
        self._coming, self._going = {}, {}

    def take(self, limit: int) -> Sequence[tuple[str, int]]:
        """The next subjects, and when they were seen; what goes only after all that comes."""
        taken = _take(self._coming, limit)
        return taken + _take(self._going, limit - len(taken))


def _take(waiting: dict[str, int], limit: int) -> list[tuple[str, int]]:
    taken = list(itertools.islice(waiting.items(), limit))
    if len(taken) == len(waiting):
        waiting.clear()
    else:
        for subject, _ in taken:
            del waiting[subject]
    return taken
