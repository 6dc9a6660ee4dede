"""The Lease that elects the one watcher that publishes: which request comes next, and what an answer means.

As client-go's leader election does it (its terms, its defaults), h11-shaped: `io.lease` sends and waits.

    the Lease is                          then
    ours                                  renew it, each `retry_s`
    not there, or nobody's                take it
    another's, renewed lately             look again after `retry_s`
    another's, not renewed for its time   take it
    not to be had (no answer, no right)   look again after `retry_s`

"Lately" is by our own clock, from when we saw the last renewal: clocks of machines are never compared. Two
who write at once are told apart by the resourceVersion. Who could not renew for `renew_s` has lost it, by the
same clock, before anybody else may take it. All that rests on clocks only decides who *should* write; that no
other *can* is the fence on FACT.
"""

import math
from typing import Any

import msgspec

from ebbgate_watcher.core import course, inputs

ORIGIN = "lease"
MISSING, CONFLICT = 404, 409


class Terms(msgspec.Struct, frozen=True):
    """`duration_s`: how long others wait for a renewal. `renew_s`: after so long without one it is lost."""

    duration_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0


class Read(msgspec.Struct, frozen=True):
    """Request the Lease."""


class Write(msgspec.Struct, frozen=True):
    """Write the Lease. `exists`: replace it; else create it."""

    body: dict[str, Any]
    exists: bool


class _Spec(msgspec.Struct, rename="camel", gc=False):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None


class _Seen(msgspec.Struct, frozen=True):
    """The Lease as last read, whole, and when it changed last, by our clock."""

    body: dict[str, Any]
    spec: _Spec
    changed_at: float


class Election:
    """`me`: unique to this process. `now`: seconds on any steady clock. `wall`: RFC 3339, microseconds."""

    def __init__(self, namespace: str, name: str, me: str, terms: Terms) -> None:
        self._metadata = {"namespace": namespace, "name": name}
        self._me = me
        self._terms = terms
        self._seen: _Seen | None = None  # None: to be read
        self._last: _Seen | None = None
        self._absent = False
        self._refusal = ""  # why it can be read, and not written
        self._renewed_at: float | None = None
        self.delay_s = 0.0

    def leading(self, now: float) -> bool:
        return self._renewed_at is not None and now < self._renewed_at + self._terms.renew_s

    @property
    def holder(self) -> str:
        """Whose it is, as far as we know; empty if nobody's."""
        return (self._seen.spec.holder_identity if self._seen else "") or ""

    def next(self, now: float, wall: str) -> Read | Write:
        """The request to send after `delay_s`."""
        if self._absent:
            return Write(self._body({"metadata": self._metadata}, _Spec(), wall), exists=False)
        if self._seen is None or not self._is_free(self._seen, now):
            return Read()
        return Write(self._body(self._seen.body, self._seen.spec, wall), exists=True)

    def release(self, wall: str) -> Write | None:
        """What gives it back at once, if it is ours."""
        if self._renewed_at is None or self._seen is None or self.holder != self._me:
            return None
        self._renewed_at = None
        spec = {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "leaseTransitions": self._seen.spec.lease_transitions or 0,
            "renewTime": wall,
            "acquireTime": wall,
        }
        return Write(self._seen.body | {"spec": spec}, exists=True)

    def read(self, status: int, body: bytes, now: float) -> list[inputs.Input]:
        """The answer to a Read that was sent at `now`."""
        if status == MISSING:
            self._seen, self._absent, self.delay_s, self._renewed_at = None, True, 0.0, None
            return []
        if status != 200:
            return self._troubled(f"{status} {course.reason_of(body)}")
        self._absent = False
        self._see(body, now)
        is_ours_to_take = self._seen is not None and self._is_free(self._seen, now)
        self.delay_s = 0.0 if is_ours_to_take and not self._refusal else self._terms.retry_s
        if is_ours_to_take and self._refusal:
            return [inputs.Broken(ORIGIN, self._refusal)]  # reading it isn't what it takes
        self._refusal = ""
        return [inputs.Recovered(ORIGIN)]

    def written(self, status: int, body: bytes, now: float) -> list[inputs.Input]:
        """The answer to a Write that was sent at `now`."""
        created, self._absent = self._absent, False
        self.delay_s = self._terms.retry_s
        if status in (200, 201):
            self._see(body, now)
            self._renewed_at, self._refusal = now, ""
            return [inputs.Recovered(ORIGIN)]
        self._seen = None  # whatever happened, what it is now has to be read
        if status == CONFLICT or (status == MISSING and not created):
            return []
        self._refusal = f"{status} {course.reason_of(body)}"
        return self._troubled(self._refusal)

    def lost(self, reason: str) -> list[inputs.Input]:
        """No answer. It may have been renewed nevertheless, which the next Read tells."""
        self._seen, self._absent = None, False
        self.delay_s = self._terms.retry_s
        return [inputs.Broken(course.API, reason, ORIGIN)]

    def _troubled(self, reason: str) -> list[inputs.Input]:
        self.delay_s = self._terms.retry_s
        return [inputs.Broken(ORIGIN, reason)]

    def _see(self, body: bytes, now: float) -> None:
        """An unreadable Lease is nobody's, but only once it has stayed so for a whole term."""
        try:
            found: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
            spec = msgspec.convert(found.get("spec") or {}, _Spec)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            found, spec = {"metadata": self._metadata}, _Spec(holder_identity="?")
        unchanged = self._last is not None and self._last.spec == spec
        changed_at = self._last.changed_at if unchanged and self._last else now
        self._seen = self._last = _Seen(found, spec, changed_at)
        if self.holder != self._me:
            self._renewed_at = None

    def _is_free(self, seen: _Seen, now: float) -> bool:
        if not seen.spec.holder_identity or seen.spec.holder_identity == self._me:
            return True
        lasts_s = seen.spec.lease_duration_seconds or self._terms.duration_s
        return now >= seen.changed_at + lasts_s

    def _body(self, lease: dict[str, Any], spec: _Spec, wall: str) -> dict[str, Any]:
        """`lease` as it is, but ours and renewed now: labels of others stay."""
        ours = spec.holder_identity == self._me
        transitions = spec.lease_transitions or 0
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            **lease,
            "spec": {
                "holderIdentity": self._me,
                "leaseDurationSeconds": math.ceil(self._terms.duration_s),
                "acquireTime": spec.acquire_time if ours else wall,
                "renewTime": wall,
                "leaseTransitions": transitions if ours or not spec.renew_time else transitions + 1,
            },
        }
