"""Occasion ─▶ Event in the API: which ones are created, which are counted on, which are too many.

As client-go's recorder does it: of one policy 25 at once, then one in 5 minutes; the same words again are the
same Event, whose series is counted on. An Event's name is made of its words, so that a watcher that was
restarted, or has just been elected, finds that it has been said instead of saying it again. Nothing here is
worth blocking for: what is too much is dropped, since the status says what holds.
"""

import hashlib
from collections import deque
from typing import Any

import msgspec

from ebbgate_watcher.core.occasions import Occasion

NAMESPACE = "default"
"""Where Events on objects without a namespace are, by Kubernetes' convention."""
CONTROLLER = "ebbgate-watcher"
BURST, REFILL_S = 25, 300.0
"""client-go's numbers, per object."""
WAITING_MAX = 1_000
KNOWN_MAX = 4_096
"""Events remembered: one that is forgotten starts a new count."""
NOTE_MAX = 1_000
"""Bytes; the API takes 1,024."""
_NAME_MAX = 253 - 17


class Create(msgspec.Struct, frozen=True):
    """Create the Event."""

    body: dict[str, Any]


class Count(msgspec.Struct, frozen=True):
    """Say in the Event that it has happened again."""

    name: str
    body: dict[str, Any]


class Policy(msgspec.Struct, frozen=True):
    """Whom it is about."""

    name: str
    uid: str


class _Known(msgspec.Struct):
    """`exists`: in the API. `count`: occasions so far, `told`: those that the API knows of."""

    policy: Policy
    occasion: Occasion
    exists: bool = False
    count: int = 0
    told: int = 0
    waits: bool = False


class Recorder:
    """`instance`: which watcher says it."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._known: dict[str, _Known] = {}
        self._waiting: deque[str] = deque()
        self._tokens: dict[str, tuple[float, float]] = {}
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def record(self, policy: Policy, occasion: Occasion, now: float) -> None:
        self._forget_some()
        name = _name(policy, occasion)
        known = self._known.setdefault(name, _Known(policy, occasion))
        if occasion.once and known.count:
            return
        known.count += 1
        if known.waits:
            return
        if len(self._waiting) >= WAITING_MAX or not self._may_say(policy.uid, now):
            self.dropped += 1
            return
        known.waits = True
        self._waiting.append(name)

    def next(self, wall: str) -> Create | Count | None:
        """What to send now. `wall`: RFC 3339, microseconds. Until its answer is known it stays the next."""
        while self._waiting:
            name = self._waiting[0]
            known = self._known[name]
            if not known.exists:
                return Create(self._body(name, known, wall))
            if known.count > known.told:
                series = {"count": max(2, known.count), "lastObservedTime": wall}
                return Count(name, {"series": series})
            self._done(known)
        return None

    def said(self) -> None:
        """The API has it."""
        known = self._known[self._waiting[0]]
        # A Create says one occasion, a Count all there were.
        known.told = known.count if known.exists else 1
        known.exists = True
        if known.told >= known.count:
            self._done(known)

    def found(self) -> None:
        """It exists: this watcher's predecessor said it."""
        known = self._known[self._waiting[0]]
        known.exists = True
        if known.occasion.once:
            known.told = known.count
        else:
            known.count += 1

    def missing(self) -> None:
        """It doesn't exist any more: Events live for an hour."""
        known = self._known[self._waiting[0]]
        known.exists, known.count, known.told = False, 1, 0

    def drop(self) -> None:
        """It can't be said."""
        self.dropped += 1
        self._done(self._known[self._waiting[0]])

    def clear(self) -> None:
        """Others say what is to be said now."""
        self._known, self._tokens = {}, {}
        self._waiting.clear()

    def _done(self, known: _Known) -> None:
        known.waits = False
        self._waiting.popleft()

    def _may_say(self, uid: str, now: float) -> bool:
        tokens, since = self._tokens.get(uid, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - since) / REFILL_S)
        allowed = tokens >= 1.0
        if len(self._tokens) > KNOWN_MAX:
            self._tokens.clear()
        self._tokens[uid] = (tokens - 1.0 if allowed else tokens, now)
        return allowed

    def _forget_some(self) -> None:
        """The oldest that don't wait."""
        if len(self._known) > KNOWN_MAX:
            idle = [name for name, known in self._known.items() if not known.waits]
            for name in idle[: KNOWN_MAX // 4]:
                del self._known[name]

    def _body(self, name: str, known: _Known, wall: str) -> dict[str, Any]:
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "eventTime": wall,
            "type": "Warning" if known.occasion.warning else "Normal",
            "reason": known.occasion.reason,
            "note": _short(known.occasion.note),
            "action": "Judge",
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance[:128],
            "regarding": {
                "apiVersion": "cilium.io/v2",
                "kind": "CiliumEgressGatewayPolicy",
                "name": known.policy.name,
                "uid": known.policy.uid,
            },
        }


def _name(policy: Policy, occasion: Occasion) -> str:
    words = "\0".join((policy.uid, occasion.reason, occasion.note))
    digest = hashlib.blake2b(words.encode(), digest_size=8).hexdigest()
    # Cut where it is too long: a name may not end in what a cut could leave.
    return f"{policy.name[:_NAME_MAX].rstrip('.-')}.{digest}"


def _short(note: str) -> str:
    encoded = note.encode()
    return note if len(encoded) <= NOTE_MAX else f"{encoded[: NOTE_MAX - 3].decode(errors='ignore')}…"
