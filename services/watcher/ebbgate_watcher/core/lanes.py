"""Lanes: how soon the API may be asked again, for each thing that we write. A trouble with Events doesn't
keep statuses from being written, nor the other way round; all of it together stays within a rate.
"""

from collections.abc import Sequence

import msgspec

from ebbgate_watcher.core import inputs

RATE, BURST = 50.0, 100
"""Requests a second, and at once: what controllers usually allow themselves."""
FIRST_DELAY_S, MAX_DELAY_S = 0.5, 30.0
MAX_PATIENCE_S = 60.0


class _Lane(msgspec.Struct):
    failures: int = 0
    closed_until: float = 0.0


class Lanes:
    def __init__(self, names: Sequence[str]) -> None:
        self._lanes = {name: _Lane() for name in names}
        self._tokens, self._counted_at = float(BURST), 0.0

    def open(self, name: str, now: float) -> bool:
        self._count(now)
        return now >= self.opens_at(name)

    def opens_at(self, name: str) -> float:
        """Not before this; in the past, if it is open."""
        lacking = max(0.0, 1.0 - self._tokens)
        paced = self._counted_at + lacking / RATE if lacking else 0.0
        return max(self._lanes[name].closed_until, paced)

    def succeed(self, name: str) -> None:
        self._lanes[name].failures = 0

    def take(self) -> None:
        """A request is sent."""
        self._tokens -= 1.0

    def fail(self, name: str, now: float, patience_s: float = 0.0) -> None:
        """The same again, later: twice as late each time, and not before the server says."""
        lane = self._lanes[name]
        lane.failures += 1
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(lane.failures - 1, 10))
        lane.closed_until = now + max(delay_s, min(patience_s, MAX_PATIENCE_S))

    def refused(self, name: str, reason: str, now: float, patience_s: float) -> list[inputs.Input]:
        self.fail(name, now, patience_s)
        return [inputs.Broken(name, reason)]

    def _count(self, now: float) -> None:
        gained = (now - self._counted_at) * RATE
        self._tokens, self._counted_at = min(float(BURST), self._tokens + gained), now
