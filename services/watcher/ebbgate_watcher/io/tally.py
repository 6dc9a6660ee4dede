"""What the watcher counts of itself, as plain numbers: counting must cost nothing, asked for or not.

`io.metrics` shows them to Prometheus.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence

from ebbgate_bus.contracts import envelope
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import metrics
from ebbgate_watcher.core import inputs, objects

RECENT = 4096
"""Readings whose end is remembered, for traces: more than wait to be published at any time."""


class Kind:
    """Of one kind. `watching_since`: monotonic; None while no watch is running. `lists`: complete ones.
    `lags`: facts by how long they took from being seen to being acknowledged.
    """

    def __init__(self) -> None:
        self.lags = metrics.Histogram()
        self.events: Counter[str] = Counter()
        self.lists = 0
        self.watching_since: float | None = None

    def heard(self, said: Sequence[inputs.Input]) -> None:
        for each in said:
            match each:
                case inputs.Seen(object=objects.Observed()):
                    self.events["seen"] += 1
                case inputs.Seen():
                    self.events["refused"] += 1
                case inputs.Vanished():
                    self.events["vanished"] += 1
                case inputs.Listed():
                    self.lists += 1

    def watch_age_s(self) -> float:
        return time.monotonic() - self.watching_since if self.watching_since is not None else 0.0


class Tally:
    """Of the whole watcher."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}
        self.published = 0
        self.requests: Counter[tuple[str, int]] = Counter()
        self._normalised: OrderedDict[int, int] = OrderedDict()

    def sent(self, what: str, status: int) -> None:
        """`what`: status, event, discovery. `status`: HTTP's."""
        self.requests[what, status] += 1

    def normalised(self, seen_ns: int) -> None:
        """What arrived at `seen_ns` is read."""
        self._normalised[seen_ns] = time.time_ns()
        if len(self._normalised) > RECENT:
            self._normalised.popitem(last=False)

    def normalised_ns(self, seen_ns: int) -> int:
        """When it was; `seen_ns` if nobody knows."""
        return self._normalised.get(seen_ns, seen_ns)

    def kind(self, name: str) -> Kind:
        return self.kinds.setdefault(name, Kind())

    def stored(self, messages: Sequence[Outgoing]) -> None:
        """`messages` are acknowledged now."""
        now_ns = time.time_ns()
        self.published += len(messages)
        for message in messages:
            if seen := message.headers.get(envelope.SEEN):
                lag_s = max(0.0, (now_ns - int(seen)) / 1e9)
                self.kind(message.subject.split(".", 4)[3]).lags.observe(lag_s)
