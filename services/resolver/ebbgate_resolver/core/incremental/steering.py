"""Steering: from policies in force to group and egress rows, followed policy by policy.

Leg: a part of Inventory → Rows: policy → gateways → wishes → slots → paths through the gate. Each stage tells
the next which policies it touches; the answers themselves come from the functions that `resolve` uses.
"""

from collections.abc import Iterable, Mapping

from ebbgate_bus.contracts import rows, subjects
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.incremental import allotments, choices
from ebbgate_resolver.core.plan import freed, held, wanted
from ebbgate_resolver.core.rules import gate, gateways, groups, policies


class Steering:
    """`chosen`, `groups`: by policy name."""

    def __init__(
        self, known: inventory.Inventory, in_force: Mapping[str, policies.Policy], rows_: wanted.Wanted
    ) -> None:
        self.chosen: dict[str, tuple[gateways.Gateway, ...]] = {}
        self.groups: dict[str, rows.Group] = {}
        self.allotments = allotments.Allotments(rows_)
        self._known = known
        self._in_force = in_force
        self._wanted = rows_
        self._choices = choices.Choices(known)
        self._to_choose: set[str] = set()
        self._to_group: set[str] = set()
        self._marks: dict[str, int] = {}
        self._uids: dict[str, str] = {}
        self._of_uid: dict[str, set[str]] = {}
        self._leads_to: dict[str, set[str]] = {}
        self._led_to_by: dict[str, set[str]] = {}
        self._slots_seen: dict[str, dict[str, str]] = {}

    def put_policy(self, name: str) -> None:
        """The policy is another version now, or in force no more."""
        policy = self._in_force.get(name)
        self._choices.put_policy(name, policy)
        self._to_choose.add(name)
        before, now = self._uids.pop(name, None), policy.uid if policy else None
        if before is not None and before != now:
            self._of_uid[before].discard(name)
            if not self._of_uid[before]:
                del self._of_uid[before]
                self._wanted.put(subjects.group(before), None)
        if now is not None:
            self._uids[name] = now
            self._of_uid.setdefault(now, set()).add(name)

    def put_nodes(self, names: Iterable[str]) -> None:
        """Nodes that came, went, or changed."""
        for name in names:
            self._to_choose |= self._choices.put_node(name)
            self._touch_paths(name)

    def put_networks(self, names: Iterable[str]) -> None:
        for name in names:
            self._to_choose |= self._choices.choosing(name)
            self._touch_paths(name)

    def put_reports(self, names: Iterable[str]) -> None:
        """Of a report only the slots in the gateway's kernel matter here."""
        for name in names:
            report = self._known.report(name)
            seen = self._slots_seen.pop(name, {})
            if report is not None and report.slots:
                self._slots_seen[name] = report.slots
            if (report.slots if report is not None else {}) != seen:
                self._touch_paths(name)

    def put_plan(self, touched: held.Touched) -> None:
        """What PLAN holds changed: slots in use, and the paths that packets take now."""
        self.allotments.touch(touched.egress)
        for node in touched.egress:
            self._touch_paths(node)
        for uid in touched.groups:
            self._to_group |= self._of_uid.get(uid, set())

    def put_everything(self) -> None:
        """PLAN was read anew."""
        self.allotments.touch({gateway.node for found in self.chosen.values() for gateway in found})
        self._to_group |= self._in_force.keys()

    def _touch_paths(self, node: str) -> None:
        self._to_group |= self._led_to_by.get(node, set())

    def settle(self, plan: held.Held, freed_: freed.Freed) -> tuple[set[str], dict[str, int]]:
        """Policies to whose verdict something of this may matter; and of those whose group row changed the
        difference of its hash.
        """
        touched = set(self._to_choose)
        for name in self._to_choose:
            self._choose(name)
        self._to_choose.clear()
        self.allotments.touch(freed_.take_touched())
        self._to_group |= self.allotments.settle(plan, freed_)
        touched |= self._to_group
        standing = groups.Standing(gate.Gate(self._known, plan.egress), self.allotments.assigned, plan.groups)
        marks = {name: self._group(name, standing) for name in sorted(self._to_group)}
        self._to_group.clear()
        return touched, {name: mark for name, mark in marks.items() if mark}

    def _choose(self, name: str) -> None:
        policy = self._in_force.get(name)
        found = self._choices.choose(policy) if policy else ()
        self.chosen.pop(name, None)
        if policy:
            self.chosen[name] = found
        self.allotments.put(name, found)
        self._to_group.add(name)

    def _group(self, name: str, standing: groups.Standing) -> int:
        policy, mark = self._in_force.get(name), self._marks.pop(name, 0)
        if policy is None:
            self.groups.pop(name, None)
            self._lead(name, set())
            return 0
        row = self.groups[name] = groups.group_row(policy, self.chosen[name], standing)
        old = standing.old.get(policy.uid)
        before = {*held.nodes(old)} if old else set()
        self._lead(name, before | {gateway.node for gateway in self.chosen[name]})
        subject = subjects.group(policy.uid)
        self._wanted.put(subject, row)
        self._marks[name] = hash(self._wanted.rows[subject])
        return self._marks[name] - mark

    def _lead(self, name: str, nodes: set[str]) -> None:
        """Remember which nodes the policy's paths depend on."""
        before = self._leads_to.pop(name, set())
        for node in before - nodes:
            self._led_to_by[node].discard(name)
        for node in nodes - before:
            self._led_to_by.setdefault(node, set()).add(name)
        if nodes:
            self._leads_to[name] = nodes
