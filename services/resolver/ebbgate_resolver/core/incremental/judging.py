"""Judging: which version of each policy is in force, followed policy by policy. See `versions` for the rules.

Leg: a part of Inventory → Rows. A policy is judged again when its fact changed, when PLAN holds another
version of it, when either happened to another policy with its uid, and all are when an absence begins to mean
a removal. `versions.judge` itself is asked, about these and those that share a uid with them.
"""

from collections.abc import Iterable

import msgspec

from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.plan import held
from ebbgate_resolver.core.rules import policies, versions


class Change(msgspec.Struct, frozen=True):
    """Of the version in force; None: there was, or is, none."""

    name: str
    old: policies.Policy | None
    new: policies.Policy | None


class Judging:
    """`versions`: as `versions.judge` would answer, kept up to date."""

    def __init__(self, known: inventory.Inventory) -> None:
        self.versions = versions.Versions({}, {}, {})
        self._known = known
        self._was_complete = False
        self._uids: dict[str, set[str]] = {}
        self._names: dict[str, set[str]] = {}

    def judge(self, names: set[str], plan: held.Held, *, everything: bool) -> list[Change]:
        """The policies that were judged; `old` and `new` are the same object where nothing changed."""
        everything = everything or self._known.complete != self._was_complete
        self._was_complete = self._known.complete
        if everything:
            names = {*self._known.policies, *plan.policies, *self._uids}
        uids = set().union(*(self._put_uids(name, plan) for name in names))
        concerned = {*names, *self._sharing(uids)}
        near = self._sharing(uid for name in concerned for uid in self._uids.get(name, ()))
        judged = versions.judge(self._only(near), {n: row for n in near if (row := plan.policies.get(n))})
        return [self._take(name, judged) for name in sorted(concerned)]

    def _put_uids(self, name: str, plan: held.Held) -> set[str]:
        """The uids that the policy had, of its fact and in PLAN, and those that it has."""
        fact, row = self._known.policies.get(name), plan.policies.get(name)
        before, now = self._uids.pop(name, set()), {each.uid for each in (fact, row) if each}
        if now:
            self._uids[name] = now
        for uid in before - now:
            self._names[uid].discard(name)
            if not self._names[uid]:
                del self._names[uid]
        for uid in now - before:
            self._names.setdefault(uid, set()).add(name)
        return before | now

    def _sharing(self, uids: Iterable[str]) -> set[str]:
        return set().union(*(self._names.get(uid, ()) for uid in uids))

    def _take(self, name: str, judged: versions.Versions) -> Change:
        old, new = self.versions.in_force.pop(name, None), judged.in_force.get(name)
        if old == new:
            new = old
        self.versions.rejected.pop(name, None)
        self.versions.kept.pop(name, None)
        if new is not None:
            self.versions.in_force[name] = new
        if name in judged.rejected:
            self.versions.rejected[name] = judged.rejected[name]
        if name in judged.kept:
            self.versions.kept[name] = judged.kept[name]
        return Change(name, old, new)

    def _only(self, names: Iterable[str]) -> inventory.Inventory:
        """An inventory in which there are no other policies."""
        few = inventory.Inventory()
        few.synced, few.unreadable = self._known.synced, self._known.unreadable
        few.policies = {name: fact for name in names if (fact := self._known.policies.get(name))}
        return few
