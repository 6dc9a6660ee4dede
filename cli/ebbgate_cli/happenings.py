"""Messages of the bus in the light of those before them: what changed, and which event began it. Pure, but
for what it remembers, which is bounded.

A message says what is so now. What it said before is known from the last one of its subject, if that was
heard too; why it was said from its trace, which begins with the event that everything else follows from.
"""

import json
from collections import OrderedDict
from typing import Any

import msgspec

from ebbgate_bus.contracts import codec, envelope, facts, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message

REMEMBERED = 50_000
"""Subjects, traces and sets: some 50 MB."""
BEGINNINGS = ("fact.", "synced", "status")
"""Kinds from which others follow; the first of a trace is its cause."""


class Happening(msgspec.Struct, frozen=True):
    """`name`: None for a subject of nobody's. `now`, `before`: None if unreadable, or not heard of. `cause`:
    the stored subject of the event it follows from, "" if that isn't known or is itself. `policies`: of an
    endpoint, those of the sets that it is and was in, as far as their rows were heard.
    """

    message: Stored
    subject: str
    name: subjects.Name | None
    now: Message | facts.Gone | None
    before: Message | None
    trouble: str = ""
    cause: str = ""
    policies: frozenset[str] = frozenset()

    @property
    def known(self) -> Message | None:
        """The object, as it is or as it last was."""
        return self.now if isinstance(self.now, Message) else self.before


class History:
    """What was heard so far."""

    def __init__(self) -> None:
        self._before: OrderedDict[str, Message] = OrderedDict()
        self._causes: OrderedDict[str, str] = OrderedDict()
        self._sets: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def take(self, message: Stored) -> Happening:
        subject = subjects.stored(message.subject)
        now, trouble = _read(subject, message.payload)
        before = self._before.pop(subject, None)
        if isinstance(now, Message):
            self._before[subject] = now
        name = subjects.parse(subject)
        cause = self._cause(envelope.trace_id(message.headers), subject, name)
        self._learn(name, now)
        for remembered in (self._before, self._causes, self._sets):
            if len(remembered) > REMEMBERED:
                remembered.popitem(last=False)
        sets = {each.set for each in (before, now) if isinstance(each, rows.Endpoint)}
        policies = frozenset(policy for each in sets for policy in self._sets.get(each, ()))
        return Happening(message, subject, name, now, before, trouble, cause, policies)

    def know(self, message: Stored) -> None:
        """What was so before anything is heard: which policies a set stands for."""
        self._learn(subjects.parse(message.subject), _read(message.subject, message.payload)[0])

    def _learn(self, name: subjects.Name | None, now: Message | facts.Gone | None) -> None:
        """A set that is gone stays known: its endpoints leave it later, or are told of no more."""
        if name and isinstance(now, rows.Routes):
            self._sets[name.ids[0]] = now.policies

    def _cause(self, trace: str, subject: str, name: subjects.Name | None) -> str:
        if not trace:
            return ""
        if name and name.kind.startswith(BEGINNINGS):
            self._causes.setdefault(trace, subject)
        found = self._causes.get(trace, "")
        return "" if found == subject else found


def changes(happening: Happening) -> dict[str, tuple[Any, Any]]:
    """Field → before and now, of those that differ; of labels and the like each one (`labels.app`). Empty
    where there is nothing to compare with.
    """
    if not isinstance(happening.now, Message) or happening.before is None:
        return {}
    return dict(_differences("", _plain(happening.before), _plain(happening.now)))


_Difference = tuple[str, tuple[Any, Any]]


def _differences(
    prefix: str, before: dict[str, Any], now: dict[str, Any]
) -> list[tuple[str, tuple[Any, Any]]]:
    found: list[tuple[str, tuple[Any, Any]]] = []
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key), now.get(key)
        if one == other:
            continue
        if isinstance(one, dict) or isinstance(other, dict):
            found += _differences(f"{prefix}{key}.", one or {}, other or {})
        else:
            found.append((prefix + key, (one, other)))
    return found


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(codec.encode(message))
    return plain


def _read(subject: str, payload: bytes) -> tuple[Message | facts.Gone | None, str]:
    try:
        return codec.decode(subject, payload), ""
    except codec.Undecodable as error:
        return None, str(error)
