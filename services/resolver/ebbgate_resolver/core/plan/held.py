"""What PLAN holds, as read or as last stored: the `actual` that a revision is a difference against.

Leg: beside Rows ─diff▶ changes. Also the only memory of `resolve`: slots, versions in force, gated paths.
Keeps bytes, and the meaning of the few rows that are looked into; a row that can't be read keeps its bytes,
so that it counts in the digest as it does everywhere, and is overwritten or removed as any other. Totals,
digests and counts follow each row, since nobody can afford to add up 150,000 rows for one pod.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from ebbgate_bus.contracts import codec, digests, facts, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core.rules import slots

K = TypeVar("K")


class Total(msgspec.Struct, frozen=True):
    """Count and digest of a scope's live rows."""

    count: int = 0
    digest: int = 0

    def replaced(self, subject: str, old: bytes, new: bytes) -> "Total":
        count = self.count - bool(old) + bool(new)
        return Total(count, digests.replace(self.digest, subject, old, new))

    def agrees(self, commit: rows.Commit | None) -> bool:
        return commit is not None and (commit.count, commit.digest) == (self.count, digests.text(self.digest))


class Touched(msgspec.Struct):
    """What changed since it was last asked for. `rows`: subjects; `groups`: uids; `egress`: nodes."""

    rows: set[str] = set()
    scopes: set[str] = set()
    groups: set[str] = set()
    policies: set[str] = set()
    egress: set[str] = set()


class Held:
    """`rows`: live rows of all scopes and the policies in force, without Commits and the writer.
    `endpoints`: how many of a node's.
    """

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.totals: dict[str, Total] = {}
        self.commits: dict[str, rows.Commit] = {}
        self.writer: rows.Writer | None = None
        self.egress: dict[slots.Place, rows.Egress] = {}
        self.groups: dict[str, rows.Group] = {}
        self.policies: dict[str, rows.PolicyInForce] = {}
        self.endpoints: dict[str, int] = {}
        self.revision = 0
        """The last one, of whoever wrote."""
        self._egress_of: dict[str, dict[slots.Place, rows.Egress]] = {}
        self._uses: dict[slots.Place, int] = {}
        self._touched = Touched()

    def put(self, subject: str, payload: bytes) -> None:
        """Raises codec.Undecodable, after the bytes were kept."""
        scope = subjects.scope_of(subject)
        if scope and subject.startswith(".endpoint.", len(scope)):
            self._put_row(subject, payload, scope)  # most rows are of this kind, and nobody looks into them
            return
        name = subjects.parse(subject)
        if name is None or not name.kind.startswith("plan."):
            return
        if name.kind not in ("plan.commit", "plan.writer"):
            self._put_row(subject, payload, name.scope)
        if name.kind in _LOOKED_INTO:
            self._forget(name)
            if payload:
                self._remember(name, codec.decode(subject, payload))

    def _put_row(self, subject: str, payload: bytes, scope: str) -> None:
        old = self.rows.pop(subject, b"")
        if scope:
            total = self.totals.get(scope) or Total()
            self.totals[scope] = total.replaced(subject, old, payload)
            self._touched.scopes.add(scope)
            if bool(old) != bool(payload) and subject.startswith(".endpoint.", len(scope)):
                node = subjects.unescape(scope.rpartition(".")[2])
                _count(self.endpoints, node, 1 if payload else -1)
        if payload:
            self.rows[subject] = payload
        self._touched.rows.add(subject)

    def _forget(self, name: subjects.Name) -> None:
        match name.kind:
            case "plan.commit":
                self.commits.pop(name.scope, None)
                self._touched.scopes.add(name.scope)
            case "plan.egress":
                self._put_egress(_place(name), None)
            case "plan.group":
                self._put_group(name.ids[0], None)
            case "plan.policy":
                self.policies.pop(name.ids[0], None)
                self._touched.policies.add(name.ids[0])

    def _remember(self, name: subjects.Name, message: Message | facts.Gone) -> None:
        match message:
            case rows.Commit():
                self.commits[name.scope] = message
                self.revision = max(self.revision, message.revision)
            case rows.Writer():
                self.writer = message
                self.revision = max(self.revision, message.revision)
            case rows.Egress():
                self._put_egress(_place(name), message)
            case rows.Group():
                self._put_group(name.ids[0], message)
            case rows.PolicyInForce():
                self.policies[name.ids[0]] = message

    def _put_egress(self, place: slots.Place, row: rows.Egress | None) -> None:
        self._touched.egress.add(place[0])
        of_node = self._egress_of.setdefault(place[0], {})
        of_node.pop(place, None)
        self.egress.pop(place, None)
        if row:
            of_node[place] = self.egress[place] = row
        elif not of_node:
            del self._egress_of[place[0]]

    def _put_group(self, uid: str, row: rows.Group | None) -> None:
        self._touched.groups.add(uid)
        old = self.groups.pop(uid, None)
        for place in places([old] if old else []):
            _count(self._uses, place, -1)
        if row:
            self.groups[uid] = row
        for place in places([row] if row else []):
            _count(self._uses, place, 1)

    def is_egress(self, subject: str) -> bool:
        """Whether it is an egress row that could be read."""
        return place_of(subject) in self.egress

    def egress_of(self, node: str) -> Mapping[slots.Place, rows.Egress]:
        return self._egress_of.get(node, {})

    def is_in_use(self, place: slots.Place) -> bool:
        """Whether a group names the slot."""
        return place in self._uses

    def take_touched(self) -> Touched:
        touched, self._touched = self._touched, Touched()
        return touched


_LOOKED_INTO = frozenset(("plan.commit", "plan.writer", "plan.egress", "plan.group", "plan.policy"))


def places(groups: Iterable[rows.Group]) -> set[slots.Place]:
    """Slots that these groups name."""
    both = [paths for group in groups for paths in (group.ipv4, group.ipv6) if paths]
    return {(path.node, path.slot) for paths in both for path in paths.paths if path.slot}


def nodes(group: rows.Group) -> set[str]:
    """Nodes that the group's paths lead to."""
    both = [paths for paths in (group.ipv4, group.ipv6) if paths]
    return {path.node for paths in both for path in paths.paths}


def place_of(subject: str) -> slots.Place:
    """Of an egress row's subject."""
    name = subjects.parse(subject) if ".egress." in subject else None
    return _place(name) if name is not None and name.kind == "plan.egress" else ("", -1)


def _place(name: subjects.Name) -> slots.Place:
    # A slot that is no number can't have been written by a resolver; as -1 it is nobody's.
    return (name.node, int(name.ids[0]) if name.ids and name.ids[0].isdecimal() else -1)


def _count(counts: dict[K, int], key: K, difference: int) -> None:
    """What is counted zero times isn't there."""
    counts[key] = counts.get(key, 0) + difference
    if not counts[key]:
        del counts[key]
