"""Allotments: which policies use which egress IP of which gateway, and under which slot: egress rows.

Leg: a part of Inventory → Rows. Slots of one gateway depend on nothing of another, so that a change costs
work for the gateways that it touches. The rows are those of `groups.egress_rows`.
"""

from collections.abc import Iterable, Mapping

from ebbgate_bus.contracts import rows, subjects
from ebbgate_resolver.core.plan import freed, held, wanted
from ebbgate_resolver.core.rules import gateways, slots


class Allotments:
    """`assigned`: wish → slot. `slotless`: wishes for which there is none, by gateway."""

    def __init__(self, rows_: wanted.Wanted) -> None:
        self.assigned: dict[slots.Wish, int] = {}
        self.slotless: dict[str, frozenset[slots.Wish]] = {}
        self._wanted = rows_
        self._of_policy: dict[str, dict[slots.Wish, str]] = {}
        self._users: dict[str, dict[slots.Wish, dict[str, str]]] = {}
        self._rows: dict[str, dict[str, slots.Wish]] = {}
        self._dirty: set[str] = set()
        self._slotless_touched: set[str] = set()

    def put(self, name: str, found: Iterable[gateways.Gateway]) -> None:
        """These are the policy's gateways now."""
        wishes: dict[slots.Wish, str] = {}
        for gateway in found:
            for address in gateway.egress.values():
                wishes.setdefault((gateway.node, address.ip), address.interface)
        before = self._of_policy.pop(name, {})
        if wishes:
            self._of_policy[name] = wishes
        for wish in before.keys() - wishes.keys():
            self._leave(wish, name)
        for wish, interface in wishes.items():
            self._users.setdefault(wish[0], {}).setdefault(wish, {})[name] = interface
        self._dirty |= {node for node, _ in before.keys() | wishes.keys()}

    def _leave(self, wish: slots.Wish, name: str) -> None:
        of_node = self._users[wish[0]]
        del of_node[wish][name]
        if not of_node[wish]:
            del of_node[wish]
            if not of_node:
                del self._users[wish[0]]

    def touch(self, nodes: Iterable[str]) -> None:
        """Their slots in PLAN, or reserved ones, are others than before."""
        self._dirty.update(nodes)

    def settle(self, plan: held.Held, freed_: freed.Freed) -> set[str]:
        """Assign slots where something changed; the policies to which that makes a difference."""
        affected: set[str] = set()
        for node in self._dirty:
            wishes = self._users.get(node, {})
            found = slots.assign(wishes, plan.egress_of(node), freed_.of_node(node))
            for wish in wishes:
                if self.assigned.get(wish) != found.get(wish):
                    affected |= wishes[wish].keys()
            affected |= self._note_slotless(node, frozenset(wishes.keys() - found.keys()))
            self._write(node, wishes, found)
        self._dirty.clear()
        return affected

    def _note_slotless(self, node: str, now: frozenset[slots.Wish]) -> set[str]:
        before = self.slotless.pop(node, frozenset())
        if now:
            self.slotless[node] = now
        if before != now:
            self._slotless_touched.add(node)
        users = self._users.get(node, {})
        return {name for wish in before ^ now for name in users.get(wish, ())}

    def take_slotless(self) -> list[tuple[str, frozenset[slots.Wish]]]:
        """By gateway, where that changed since it was last asked."""
        touched, self._slotless_touched = self._slotless_touched, set()
        return [(node, self.slotless.get(node, frozenset())) for node in sorted(touched)]

    def _write(
        self, node: str, wishes: Mapping[slots.Wish, Mapping[str, str]], found: Mapping[slots.Wish, int]
    ) -> None:
        now = {subjects.egress(node, slot): wish for wish, slot in found.items()}
        before = self._rows.pop(node, {})
        for subject in before.keys() - now.keys():
            self._wanted.put(subject, None)
        for wish in before.values():
            self.assigned.pop(wish, None)
        self.assigned.update(found)
        for subject, wish in now.items():
            users = wishes[wish]
            row = rows.Egress(egress_ip=wish[1], interface=users[min(users)], policies=tuple(sorted(users)))
            self._wanted.put(subject, row)
        if now:
            self._rows[node] = now
