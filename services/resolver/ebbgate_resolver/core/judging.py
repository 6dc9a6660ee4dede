"""Judging: which version of each policy is in force, followed policy by policy. See `versions` for the rules.

Leg: a part of Inventory → Rows. A policy is judged again when its fact changed, when PLAN holds another
version of it, and all are when an absence begins to mean a removal.
"""

from collections.abc import Iterable

import msgspec

from ebbgate_resolver.core import held, inventory, policies, versions


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

    def judge(self, names: Iterable[str], plan: held.Held, *, everything: bool) -> list[Change]:
        """The policies that were judged; `old` and `new` are the same object where nothing changed."""
        everything = everything or self._known.complete != self._was_complete
        self._was_complete = self._known.complete
        if everything:
            names = {*self._known.policies, *plan.policies, *self.versions.in_force, *self.versions.rejected}
        return [self._judge(name, plan) for name in sorted(set(names))]

    def _judge(self, name: str, plan: held.Held) -> Change:
        row = plan.policies.get(name)
        judged = versions.judge(self._only(name), {name: row} if row else {})
        old, new = self.versions.in_force.pop(name, None), judged.in_force.get(name)
        if old == new:
            new = old
        self.versions.rejected.pop(name, None)
        self.versions.kept.pop(name, None)
        if new is not None:
            self.versions.in_force[name] = new
        self.versions.rejected.update(judged.rejected)
        self.versions.kept.update(judged.kept)
        return Change(name, old, new)

    def _only(self, name: str) -> inventory.Inventory:
        """An inventory in which there is no other policy: a policy is judged by itself."""
        one = inventory.Inventory()
        one.synced, one.unreadable = self._known.synced, self._known.unreadable
        fact = self._known.policies.get(name)
        if fact is not None:
            one.policies[name] = fact
        return one
