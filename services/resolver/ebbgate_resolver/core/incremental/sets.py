"""Sets: the combinations of policies that pods have, each with its routes in chunks.

Leg: a part of Inventory → Rows. A set lives as long as a pod is in it; its rows are made anew only when one
of its policies has other routes. Sets are few where pods are many.
"""

import msgspec

from ebbgate_bus.contracts import codec, subjects
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.plan import wanted
from ebbgate_resolver.core.rules import policies, routes


class Combination(msgspec.Struct, eq=False):
    """`names`: of its policies, sorted. `subjects`: of its chunks."""

    names: tuple[str, ...]
    id: str
    pods: set[inventory.PodKey] = set()
    subjects: frozenset[str] = frozenset()
    conflicts: tuple[routes.Conflict, ...] = ()


class Settled(msgspec.Struct, frozen=True):
    """Policies whose shared rows changed, with the difference of the sum of their rows' hashes; conflicts
    that began or ended.
    """

    marks: dict[str, int] = {}
    conflicts: set[routes.Conflict] = set()


class Sets:
    """`members`: id → policies. `lost`: name of the loser → conflict → in how many sets."""

    def __init__(self, in_force: dict[str, policies.Policy], rows: wanted.Wanted) -> None:
        self.members: dict[str, tuple[policies.Policy, ...]] = {}
        self.lost: dict[str, dict[routes.Conflict, int]] = {}
        self._in_force = in_force
        self._rows = rows
        self._by_names: dict[tuple[str, ...], Combination] = {}
        self._of_policy: dict[str, set[Combination]] = {}
        self._dirty: dict[Combination, None] = {}

    def join(self, names: tuple[str, ...], pod: inventory.PodKey) -> Combination:
        """The set of these policies, with the pod in it. The names must be in force."""
        found = self._by_names.get(names)
        if found is None:
            set_id = routes.set_id([self._in_force[name] for name in names])
            found = self._by_names[names] = Combination(names, set_id)
            for name in names:
                self._of_policy.setdefault(name, set()).add(found)
        if not found.pods:
            self._dirty[found] = None
        found.pods.add(pod)
        return found

    def leave(self, combination: Combination, pod: inventory.PodKey) -> None:
        combination.pods.discard(pod)
        if not combination.pods:
            self._dirty[combination] = None

    def changed(self, name: str) -> None:
        """The policy has other routes, or another age."""
        self._dirty.update(dict.fromkeys(self._of_policy.get(name, ())))

    def renamed(self, name: str) -> set[inventory.PodKey]:
        """The policy has another uid, so its sets have other ids; the pods that have to join anew."""
        pods: set[inventory.PodKey] = set()
        for combination in self._of_policy.get(name, ()):
            if self._by_names.get(combination.names) is combination:
                del self._by_names[combination.names]
            pods |= combination.pods
        return pods

    def settle(self) -> Settled:
        """Write the rows of all sets that changed."""
        settled = Settled()
        for combination in self._dirty:
            before = set(combination.conflicts)
            rows = self._make(combination)
            for subject in combination.subjects - rows.keys():
                self._put(combination, subject, b"", settled)
            for subject, payload in rows.items():
                self._put(combination, subject, payload, settled)
            combination.subjects = frozenset(rows)
            self._count(before, set(combination.conflicts), settled)
            if not combination.pods:
                self._forget(combination)
        self._dirty.clear()
        return settled

    def _make(self, combination: Combination) -> dict[str, bytes]:
        if not combination.pods:
            combination.conflicts = ()
            return {}
        members = [self._in_force[name] for name in combination.names]
        self.members[combination.id] = tuple(members)
        merged, combination.conflicts = routes.merge(members)
        return {
            subjects.routes(combination.id, chunk): codec.encode(row)
            for chunk, row in routes.chunks(members, merged).items()
        }

    def _put(self, combination: Combination, subject: str, payload: bytes, settled: Settled) -> None:
        old = self._rows.rows.get(subject, b"")
        if self._rows.put_payload(subject, payload):
            difference = (hash((subject, payload)) if payload else 0) - (hash((subject, old)) if old else 0)
            for name in combination.names:
                settled.marks[name] = settled.marks.get(name, 0) + difference

    def _count(self, before: set[routes.Conflict], after: set[routes.Conflict], settled: Settled) -> None:
        for conflict in before ^ after:
            counts = self.lost.setdefault(conflict.loser, {})
            counts[conflict] = counts.get(conflict, 0) + (1 if conflict in after else -1)
            if not counts[conflict]:
                del counts[conflict]
            settled.conflicts.add(conflict)

    def is_lost(self, conflict: routes.Conflict) -> bool:
        return conflict in self.lost.get(conflict.loser, ())

    def _forget(self, combination: Combination) -> None:
        if self._by_names.get(combination.names) is combination:
            del self._by_names[combination.names]
        for name in combination.names:
            self._of_policy[name].discard(combination)
            if not self._of_policy[name]:
                del self._of_policy[name]
        self.members.pop(combination.id, None)
