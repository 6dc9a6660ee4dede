"""What the resolver counts of itself, as plain numbers: counting must cost nothing, asked for or not."""

import time
from collections import Counter
from collections.abc import Sequence

from ebbgate_bus.contracts import envelope
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import metrics

PHASES = ("fold", "resolve", "publish")


class Tally:
    """`lags`: of revisions, from the moment the event behind each was seen. `losses`: by reason."""

    def __init__(self) -> None:
        self.phases = {phase: metrics.Histogram() for phase in PHASES}
        self.lags = metrics.Histogram()
        self.folded: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.claims = self.revisions = self.messages = self.verdicts = self.unreadable = 0

    def stored(self, batches: Sequence[Sequence[Outgoing]], *, timely: bool) -> None:
        """`timely`: nothing was read anew, so that the events behind it are new, too."""
        self.revisions += len(batches)
        self.messages += sum(map(len, batches))
        seen = batches[0][0].headers.get(envelope.SEEN, "") if batches else ""
        if timely and seen.isdecimal():
            self.lags.observe(max(0.0, (time.time_ns() - int(seen)) / 1e9))
