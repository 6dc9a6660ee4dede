"""Choices: which nodes match the gateways' node selectors, followed node by node.

Leg: a part of Inventory → Rows. `gateways.choose` asks it for the nodes of a selector; it tells in turn which
policies have to choose anew when a node changed. Selectors that several policies share are followed once.
"""

import bisect
from collections.abc import Iterable

from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.incremental import labels
from ebbgate_resolver.core.rules import gateways, policies, selectors


class Choices:
    def __init__(self, known: inventory.Inventory) -> None:
        self._known = known
        self._by_labels: labels.Index[str] = labels.Index()
        self._labels: dict[str, dict[str, str]] = {}
        self._members: dict[selectors.Selector, list[str]] = {}
        self._users: dict[selectors.Selector, set[str]] = {}
        self._wants: dict[str, set[selectors.Selector]] = {}
        self._matching: dict[str, set[selectors.Selector]] = {}

    def put_policy(self, name: str, policy: policies.Policy | None) -> None:
        wants = {choice.nodes for choice in policy.gateways} if policy else set()
        before = self._wants.pop(name, set())
        if wants:
            self._wants[name] = wants
        for selector in before - wants:
            self._users[selector].discard(name)
            if not self._users[selector]:
                self._forget(selector)
        for selector in wants - before:
            self._users.setdefault(selector, set()).add(name)
            if selector not in self._members:
                self._follow(selector)

    def put_node(self, name: str) -> set[str]:
        """The node has other labels, or is new, or gone: policies that have to choose anew."""
        node = self._known.nodes.get(name)
        before = self._labels.pop(name, None)
        if before is not None:
            self._by_labels.remove(name, before)
        if node is not None:
            self._labels[name] = node.labels
            self._by_labels.add(name, node.labels)
        affected = self._matching.get(name, set()).copy()
        if node is None or before != node.labels:
            for selector in self._members:
                self._keep(selector, name, node is not None and selectors.matches(selector, node.labels))
        return self._used_by(affected | self._matching.get(name, set()))

    def choosing(self, name: str) -> set[str]:
        """Policies that this node is eligible for."""
        return self._used_by(self._matching.get(name, set()))

    def choose(self, policy: policies.Policy) -> tuple[gateways.Gateway, ...]:
        return gateways.choose_among(policy, self._known, self._members.__getitem__)

    def _used_by(self, found: Iterable[selectors.Selector]) -> set[str]:
        return set().union(*(self._users[selector] for selector in found))

    def _follow(self, selector: selectors.Selector) -> None:
        members = [
            name
            for name in self._by_labels.candidates(selector)
            if selectors.matches(selector, self._labels[name])
        ]
        self._members[selector] = sorted(members)
        for name in members:
            self._matching.setdefault(name, set()).add(selector)

    def _forget(self, selector: selectors.Selector) -> None:
        del self._users[selector]
        for name in self._members.pop(selector):
            self._matching[name].discard(selector)

    def _keep(self, selector: selectors.Selector, name: str, matches: bool) -> None:
        matching = self._matching.setdefault(name, set())
        if matches == (selector in matching):
            return
        members = self._members[selector]
        if matches:
            bisect.insort(members, name)
            matching.add(selector)
        else:
            del members[bisect.bisect_left(members, name)]
            matching.discard(selector)
