"""Incremental: the rows of `resolve`, followed change by change. A pod event costs work for that pod.

Leg: Inventory ─resolve▶ Rows. `update` takes what the inventory and PLAN say has changed since it was last
called, and walks the same stages as `resolve`, each with what the one before it touched. It must end with the
rows that `resolve` finds from the same pair; tests compare the two after every step. A start is the case
where everything has changed.
"""

from collections.abc import Iterable, Sequence

import msgspec

from ebbgate_bus.contracts import subjects
from ebbgate_resolver.core import answers, inventory, resolve
from ebbgate_resolver.core.incremental import (
    borders,
    crowds,
    judging,
    ledger,
    noted,
    placement,
    sets,
    steering,
    troubles,
)
from ebbgate_resolver.core.people import verdicts
from ebbgate_resolver.core.plan import freed, held, wanted
from ebbgate_resolver.core.rules import endpoints, routes, surroundings


class Update(msgspec.Struct, frozen=True):
    """`policies`: names of those whose verdict may be another now. `nodes`: those that may have become up
    to date. `notes`: what wasn't said before.
    """

    policies: set[str]
    nodes: set[str]
    notes: tuple[answers.Note, ...]


class Following(msgspec.Struct, frozen=True):
    """What rows depend on besides the inventory. `replaced`: `plan` is another one than last time."""

    plan: held.Held
    freed: freed.Freed
    replaced: bool


class Incremental:
    """`wanted`: all rows. `versions`: in force."""

    def __init__(self, known: inventory.Inventory, setting: Iterable[str]) -> None:
        self.wanted = wanted.Wanted()
        self.ledger = ledger.Ledger()
        self._known = known
        self._noted = noted.Noted()
        self._judging = judging.Judging(known)
        self.versions = self._judging.versions
        self._borders = borders.Borders(known, self.wanted, setting)
        self._crowds = crowds.Crowds(known)
        self._sets = sets.Sets(self.versions.in_force, self.wanted)
        self._placement = placement.Placement(known, self._sets, self.wanted)
        self._steering = steering.Steering(known, self.versions.in_force, self.wanted)
        self._pods_on: dict[str, set[inventory.PodKey]] = {}
        self._node_of: dict[inventory.PodKey, str] = {}
        self._labels_of: dict[str, dict[str, str]] = {}
        self._troubles = troubles.Troubles(known)

    @property
    def is_slotless(self) -> bool:
        """Whether a slot is waited for."""
        return bool(self._steering.allotments.slotless)

    def update(self, touched: inventory.Touched, of_plan: held.Touched, following: Following) -> Update:
        """`touched`, `of_plan`: what changed in the inventory and in PLAN since the last update."""
        plan, replaced = following.plan, following.replaced
        to_place = self._put_nodes(touched) | self._put_namespaces(touched)
        names = touched.policies | of_plan.policies
        changes = self._judging.judge(names, plan, everything=replaced)
        to_place |= self._put_policies(changes) | self._put_pods(touched.pods)
        self._steering.put_networks(touched.networks)
        self._steering.put_reports(touched.reports | touched.nodes)
        self._steering.put_plan(of_plan)
        if replaced:
            self._steering.put_everything()
        moved = {change.name for change in changes} | touched.policies
        moved |= self._troubles.put_reports(touched.reports | touched.nodes)
        moved |= self._place(to_place) | self._settle(plan, following.freed)
        return Update(moved, touched.reports | touched.nodes, self._noted.take_fresh())

    def progress(self, policy: str) -> verdicts.Progress:
        """What a verdict on this policy needs to know."""
        counts = self._placement.counts
        return verdicts.Progress(
            self._known,
            self._view(policy),
            self.ledger.programmed,
            counts.buckets,
            self._troubles.nodes,
            counts.sorted_nodes,
        )

    def _view(self, policy: str) -> resolve.Resolution:
        """In the form of a full resolution; conflicts are those of this policy."""
        steering_, counts = self._steering, self._placement.counts
        slotless = frozenset().union(*steering_.allotments.slotless.values())
        matched = endpoints.Matched(pods=counts.pods, nodes=counts.nodes, sets=self._sets.members)
        return resolve.Resolution(
            wanted=self.wanted.rows,
            retained={},
            versions=self.versions,
            chosen=steering_.chosen,
            matched=matched,
            groups=steering_.groups,
            conflicts=tuple(sorted(self._sets.lost.get(policy, ()))),
            slotless=slotless,
        )

    def _put_nodes(self, touched: inventory.Touched) -> set[inventory.PodKey]:
        """The pods to which it makes a difference."""
        to_place: set[inventory.PodKey] = set()
        self._steering.put_nodes(touched.nodes)
        for name in touched.nodes:
            node = self._known.nodes.get(name)
            self._borders.put_node(name)
            self._noted.say(("2 node", name), surroundings.notes_of_node(name, self._known) if node else [])
            before = self._labels_of.pop(name, None)
            if node is not None:
                self._labels_of[name] = node.labels
            pods = self._pods_on.get(name, ())
            if (before is None) != (node is None):
                to_place.update(pods)
            elif node is not None and before != node.labels:
                to_place.update(key for key in pods if self._crowds.asks_for_node(key))
        for name in touched.service_cidrs:
            self._borders.put_service_cidr(name)
        return to_place

    def _put_namespaces(self, touched: inventory.Touched) -> set[inventory.PodKey]:
        changed = [crowd for name in touched.namespaces for crowd in self._crowds.put_namespace(name)]
        return set().union(*(crowd.pods for crowd in changed))

    def _put_policies(self, changes: Sequence[judging.Change]) -> set[inventory.PodKey]:
        to_place: set[inventory.PodKey] = set()
        for change in changes:
            kept = self.versions.kept.get(change.name)
            self.wanted.put(subjects.policy_in_force(change.name), kept)
            why = self.versions.rejected.get(change.name)
            said = [resolve.note_of_rejected(change.name, why)] if why else []
            self._noted.say(("0 rejected", change.name), said)
            if change.old is not change.new:
                to_place |= self._put_policy(change)
        return to_place

    def _put_policy(self, change: judging.Change) -> set[inventory.PodKey]:
        """A policy without destinations chooses nobody."""
        name, old, new = change.name, change.old, change.new
        to_place: set[inventory.PodKey] = set()
        if old and new and old.uid != new.uid:
            to_place |= self._sets.renamed(name)
        old_rules = old.rules if old and old.destinations else None
        new_rules = new.rules if new and new.destinations else None
        if old_rules != new_rules:
            for crowd in self._crowds.put_policy(name, new if new_rules is not None else None):
                to_place |= crowd.pods
        self._sets.changed(name)
        self._steering.put_policy(name)
        return to_place

    def _put_pods(self, keys: set[inventory.PodKey]) -> set[inventory.PodKey]:
        for key in keys:
            pod = self._known.pods.get(key)
            self._crowds.put_pod(key, pod)
            before, now = self._node_of.get(key), pod.node if pod else None
            if before == now:
                continue
            if before is not None:
                del self._node_of[key]
                self._pods_on[before].discard(key)
                if not self._pods_on[before]:
                    del self._pods_on[before]
            if now is not None:
                self._node_of[key] = now
                self._pods_on.setdefault(now, set()).add(key)
        return keys

    def _place(self, to_place: set[inventory.PodKey]) -> set[str]:
        """Policies whose pods changed."""
        outcome = self._placement.place(to_place, self._crowds)
        for row, difference in outcome.rows:
            for name in row.names:
                self.ledger.count(name, row.node, row.mark, difference)
        for source, said in outcome.notes.items():
            self._noted.say(("5 pod", *source), said)
        return outcome.policies

    def _settle(self, plan: held.Held, freed_: freed.Freed) -> set[str]:
        """Policies whose sets, gateways or paths changed."""
        of_sets = self._sets.settle()
        touched, marks = self._steering.settle(plan, freed_)
        for name in touched:
            found = self._steering.chosen.get(name)
            self.ledger.put_gateways(name, found or ())
            said = resolve.notes_of_gateways(name, found) if found is not None else []
            self._noted.say(("1 unresolved", name), said)
        for name in of_sets.marks.keys() | marks.keys():
            if of_sets.marks.get(name, 0) + marks.get(name, 0):
                self.ledger.put_shared(name)
        self._say_conflicts(of_sets.conflicts)
        for node, wishes in self._steering.allotments.take_slotless():
            self._noted.say(("3 slots", node), [resolve.note_of_slotless(wish) for wish in sorted(wishes)])
        return touched | {conflict.loser for conflict in of_sets.conflicts}

    def _say_conflicts(self, changed: Iterable[routes.Conflict]) -> None:
        for lost in changed:
            said = [resolve.note_of_conflict(lost)] if self._sets.is_lost(lost) else []
            self._noted.say(("4 lost", lost.loser, lost.winner, lost.cidr), said)
