"""What the programmer counts of itself, as plain numbers: counting must cost nothing, asked for or not."""

import time
from collections import Counter

from ebbgate_bus.contracts import reports
from ebbgate_bus.runtime import metrics
from ebbgate_programmer.core import stages


class Tally:
    """`passes`: by what came of them. `stages`: seconds. `lags`: of plans, from the moment the event behind
    each was seen to the kernel. `last_pass`: seconds since 1970. `unready`: why not, or empty.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.unready = "the bus isn't reached yet"
        self.passes: Counter[str] = Counter()
        self.durations = metrics.Histogram()
        self.stages: dict[str, float] = {}
        self.changes: Counter[str] = Counter()
        self.lags = metrics.Histogram()
        self.drifts = self.disagreements = self.problems = 0
        self.last_pass = 0.0
        self.applied: reports.Applied | None = None
        self.stats: reports.Stats | None = None

    def passed(self, result: str, began_s: float, spans: tuple[stages.Span, ...]) -> None:
        """`began_s`: on the monotonic clock."""
        self.passes[result] += 1
        self.durations.observe(time.monotonic() - began_s)
        self.last_pass = time.time()
        for stage, milliseconds in stages.took_ms(spans).items():
            self.stages[stage] = self.stages.get(stage, 0.0) + milliseconds / 1000

    def arrived(self, seen: str) -> None:
        """A new plan is in the kernel. `seen`: when its event was, in nanoseconds, as headers have it."""
        if seen.isdecimal():
            self.lags.observe(max(0.0, (time.time_ns() - int(seen)) / 1e9))
