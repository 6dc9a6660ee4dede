"""Complaints: one log line when something gets worse, one when it is better, none in between.

The watcher sees the same bad object at every relist and the same dead API at every attempt. What was said
already is remembered per subject of trouble, so that logs stay readable while a trouble lasts for days.
"""

from ebbgate_watcher.core import inputs, objects

LIMIT = 10_000
"""Troubles remembered: beyond it some lines may come twice, but memory is bounded."""


class Complaints:
    """What is wrong now: by what it is about, the text that was said."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._parts: dict[str, set[str]] = {}

    def about(self, seen: objects.Observed | objects.Unusable) -> list[inputs.Remark]:
        """Remarks on an object that is unusable, or of which something had to be left out."""
        if isinstance(seen, objects.Unusable):
            about = seen.subject or f"{seen.kind} {seen.name}"
            fields: dict[str, object] = {"kind": seen.kind, "name": seen.name, "reason": seen.reason}
            return self._say(about, "object.refused", seen.reason, fields)
        if not seen.warnings:
            self._said.pop(seen.subject, None)
            return []
        reason = "; ".join(seen.warnings)
        fields = {"kind": seen.kind, "subject": seen.subject, "reason": reason}
        return self._say(seen.subject, "object.shortened", reason, fields)

    def broken(self, trouble: inputs.Broken) -> list[inputs.Remark]:
        """A remark, unless the same was said, or another part said anything about this origin."""
        parts = self._parts.setdefault(trouble.origin, set())
        said_by_others = bool(parts - {trouble.part})
        parts.add(trouble.part)
        if said_by_others:
            return []
        fields: dict[str, object] = {"origin": trouble.origin, "reason": trouble.reason}
        return self._say(_source(trouble.origin), "source.broken", trouble.reason, fields)

    def recovered(self, origin: str, part: str = "") -> list[inputs.Remark]:
        parts = self._parts.get(origin, set())
        parts.discard(part)
        if parts or self._said.pop(_source(origin), None) is None:
            return []
        return [inputs.Remark("source.recovered", False, {"origin": origin})]

    def forget(self, subject: str) -> None:
        """The object is gone, and its trouble with it."""
        self._said.pop(subject, None)

    def _say(self, about: str, event: str, reason: str, fields: dict[str, object]) -> list[inputs.Remark]:
        if self._said.get(about) == reason:
            return []
        if len(self._said) >= LIMIT:
            self._said.clear()
        self._said[about] = reason
        return [inputs.Remark(event, True, fields)]


def _source(origin: str) -> str:
    return f"source {origin}"
