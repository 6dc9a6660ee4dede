"""What PLAN holds, as read or as last stored: the `actual` that a revision is a difference against.

Leg: beside Rows ─diff▶ changes. Also the only memory of `resolve`: slots, versions in force, gated paths.
Keeps bytes, and the meaning of the few rows that are looked into; a row that can't be read keeps its bytes,
so that it counts in the digest as it does everywhere, and is overwritten or removed as any other.
"""

from collections.abc import Iterable

import msgspec

from ebbgate_bus.contracts import codec, digests, facts, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import slots


class Total(msgspec.Struct, frozen=True):
    """Count and digest of a scope's live rows."""

    count: int = 0
    digest: int = 0

    def replaced(self, subject: str, old: bytes, new: bytes) -> "Total":
        count = self.count - bool(old) + bool(new)
        return Total(count, digests.replace(self.digest, subject, old, new))

    def agrees(self, commit: rows.Commit | None) -> bool:
        return commit is not None and (commit.count, commit.digest) == (self.count, digests.text(self.digest))


class Held:
    """`rows`: live rows of all scopes and the policies in force, without Commits and the writer."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.totals: dict[str, Total] = {}
        self.commits: dict[str, rows.Commit] = {}
        self.writer: rows.Writer | None = None
        self.egress: dict[slots.Place, rows.Egress] = {}
        self.groups: dict[str, rows.Group] = {}
        self.policies: dict[str, rows.PolicyInForce] = {}

    def put(self, subject: str, payload: bytes) -> None:
        """Raises codec.Undecodable, after the bytes were kept."""
        name = subjects.parse(subject)
        if name is None or not name.kind.startswith("plan."):
            return
        if name.kind not in ("plan.commit", "plan.writer"):
            self._put_row(subject, payload, name.scope)
        self._forget(name)
        if payload and name.kind in _LOOKED_INTO:
            self._remember(name, codec.decode(subject, payload))

    def _put_row(self, subject: str, payload: bytes, scope: str) -> None:
        if scope:
            total = self.totals.get(scope, Total())
            self.totals[scope] = total.replaced(subject, self.rows.get(subject, b""), payload)
        self.rows.pop(subject, None)
        if payload:
            self.rows[subject] = payload

    def _forget(self, name: subjects.Name) -> None:
        match name.kind:
            case "plan.commit":
                self.commits.pop(name.scope, None)
            case "plan.egress":
                self.egress.pop(_place(name), None)
            case "plan.group":
                self.groups.pop(name.ids[0], None)
            case "plan.policy":
                self.policies.pop(name.ids[0], None)

    def _remember(self, name: subjects.Name, message: Message | facts.Gone) -> None:
        match message:
            case rows.Commit():
                self.commits[name.scope] = message
            case rows.Writer():
                self.writer = message
            case rows.Egress():
                self.egress[_place(name)] = message
            case rows.Group():
                self.groups[name.ids[0]] = message
            case rows.PolicyInForce():
                self.policies[name.ids[0]] = message

    @property
    def revision(self) -> int:
        """The last one, of whoever wrote."""
        seen = [commit.revision for commit in self.commits.values()]
        return max([self.writer.revision if self.writer else 0, *seen])

    def places_in_use(self) -> set[slots.Place]:
        """Slots that a group names."""
        return places(self.groups.values())

    def nodes_with_endpoints(self) -> set[str]:
        names = map(subjects.parse, self.rows)
        return {name.node for name in names if name and name.kind == "plan.endpoint"}


_LOOKED_INTO = frozenset(("plan.commit", "plan.writer", "plan.egress", "plan.group", "plan.policy"))


def places(groups: Iterable[rows.Group]) -> set[slots.Place]:
    both = [paths for group in groups for paths in (group.ipv4, group.ipv6) if paths]
    return {(path.node, path.slot) for paths in both for path in paths.paths if path.slot}


def _place(name: subjects.Name) -> slots.Place:
    # A slot that is no number can't have been written by a resolver; as -1 it is nobody's.
    return (name.node, int(name.ids[0]) if name.ids and name.ids[0].isdecimal() else -1)
