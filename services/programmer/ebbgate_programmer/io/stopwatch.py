"""The clock of a pass: when each stage began and ended."""

import contextlib
import time
from collections.abc import Iterator

from ebbgate_programmer.core import stages


class Stopwatch:
    def __init__(self) -> None:
        self._spans: list[stages.Span] = []

    @contextlib.contextmanager
    def timed(self, stage: stages.Stage) -> Iterator[None]:
        began_ns = time.time_ns()
        try:
            yield
        finally:
            self._spans.append(stages.Span(stage, began_ns, time.time_ns()))

    def take(self) -> tuple[stages.Span, ...]:
        """What was timed since the last time."""
        spans, self._spans = self._spans, []
        return stages.merged(spans)
