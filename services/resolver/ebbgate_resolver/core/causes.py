"""Causes: the events behind a step, of which one trace goes on and the others are linked to it.

Beside the walk: rows don't depend on them. Several events are folded into one step when they come together;
a message has one trace, so one is chosen:

| folded | goes on |
|---|---|
| nothing with a trace | none |
| sampled and unsampled ones | a sampled one, so that what is recorded is whole |
| facts and reports, of those | a fact: something happened in the world; a report only answers |
| several of that kind | the last |
"""

import msgspec

from ebbgate_bus.contracts import trace
from ebbgate_bus.contracts.envelope import SEEN, TRACEPARENT, Stored

_SAMPLED = frozenset("13579bdf")
"""Last digits of a traceparent whose lowest bit is set."""


class Cause(msgspec.Struct, frozen=True):
    """`context`, `subject`: of the message that is gone on with. `links`: traceparents of others, each trace
    once, at most trace.MAX_LINKS. `events`: how many were folded.
    """

    context: trace.Context | None = None
    subject: str = ""
    links: tuple[str, ...] = ()
    events: int = 0


class Causes:
    """Of one step."""

    def __init__(self) -> None:
        self._chosen: Stored | None = None
        self._rank = (False, False)
        self._others: dict[str, trace.Context] = {}
        self._events = 0

    def take(self, message: Stored, *, is_fact: bool) -> None:
        """Costs next to nothing: most events of a flood are neither chosen nor linked to."""
        traceparent = message.headers.get(TRACEPARENT, "")
        if not (traceparent or SEEN in message.headers):
            return
        self._events += 1
        if len(self._others) <= trace.MAX_LINKS and (context := trace.parse(traceparent)):
            self._others.setdefault(context.trace, context)
        rank = (traceparent[-1:] in _SAMPLED, is_fact)
        if rank >= self._rank:
            self._chosen, self._rank = message, rank

    @property
    def cause(self) -> Cause:
        context = trace.of(self._chosen.headers) if self._chosen else None
        others = [each for each in self._others.values() if context is None or each.trace != context.trace]
        subject = self._chosen.subject if self._chosen else ""
        return Cause(context, subject, tuple(map(trace.text, others[: trace.MAX_LINKS])), self._events)

    def headers(self, traceparent: str) -> dict[str, str]:
        """What every message of the step carries: when the event was seen, and the trace. `traceparent`:
        empty for the event's own.
        """
        known = self._chosen.headers if self._chosen else {}
        found = {key: known[key] for key in (SEEN, TRACEPARENT) if key in known}
        return found | ({TRACEPARENT: traceparent} if traceparent else {})
