"""Who has which labels: an index from label to items, and one from labels to the rules that may want them.

Leg: beside Inventory → Rows. Both only narrow down: what they give is still asked with `selectors.matches`,
so that a mistake here could cost a match, never invent one; a property holds them against asking everybody.
A selector is looked up by one of its requirements, the one that leaves fewest.
"""

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from ebbgate_resolver.core.rules import policies, selectors

T = TypeVar("T")
_NARROW = (selectors.Operator.IN, selectors.Operator.EXISTS)
"""`NotIn` and `DoesNotExist` match absent labels: they narrow nothing."""


class Index(Generic[T]):
    """Items by label. Items are compared by hash and equality."""

    def __init__(self) -> None:
        self._all: set[T] = set()
        self._by: dict[str, dict[str, set[T]]] = {}

    def add(self, item: T, labels: Mapping[str, str]) -> None:
        self._all.add(item)
        for key, value in labels.items():
            self._by.setdefault(key, {}).setdefault(value, set()).add(item)

    def remove(self, item: T, labels: Mapping[str, str]) -> None:
        """`labels`: those that it was added with."""
        self._all.discard(item)
        for key, value in labels.items():
            by_value = self._by[key]
            by_value[value].discard(item)
            if not by_value[value]:
                del by_value[value]
                if not by_value:
                    del self._by[key]

    def candidates(self, selector: selectors.Selector) -> set[T]:
        """All that match are among them. Not to be changed by the caller."""
        found = [self._having(each) for each in selector.requirements if each.operator in _NARROW]
        parts = min(found, key=lambda parts: sum(map(len, parts)), default=[self._all])
        return parts[0] if len(parts) == 1 else set().union(*parts)

    def _having(self, requirement: selectors.Requirement) -> list[set[T]]:
        by_value = self._by.get(requirement.key, {})
        if requirement.operator is selectors.Operator.EXISTS:
            return list(by_value.values())
        return [by_value[value] for value in requirement.values if value in by_value]


Clue = tuple[str, ...]
"""Whose label ("pod", "namespace"), its key, and its value if that counts; empty: nothing is known."""


class Rules:
    """Names of policies, by what one requirement of each of their rules asks for."""

    def __init__(self) -> None:
        self._by: dict[Clue, set[str]] = {}
        self._clues: dict[str, set[Clue]] = {}

    def put(self, policy: policies.Policy) -> None:
        self.remove(policy.name)
        clues = {clue for rule in policy.rules for clue in self._cheapest(rule)}
        self._clues[policy.name] = clues
        for clue in clues:
            self._by.setdefault(clue, set()).add(policy.name)

    def remove(self, name: str) -> None:
        for clue in self._clues.pop(name, ()):
            self._by[clue].discard(name)
            if not self._by[clue]:
                del self._by[clue]

    def _cheapest(self, rule: policies.Rule) -> list[Clue]:
        """The requirement that fewest rules are looked up by so far: a label that all pods have helps
        nobody.
        """
        options = [*_clues("pod", rule.pods), *_clues("namespace", rule.namespaces)]
        return min(options, key=self._crowding, default=[()])

    def _crowding(self, clues: list[Clue]) -> tuple[int, int]:
        """`Exists` has one clue, and is met more often than any value."""
        exists = any(len(clue) == 2 for clue in clues)
        return (exists, sum(len(self._by.get(clue, ())) for clue in clues) + len(clues))

    def candidates(self, pod: Mapping[str, str], namespace: Mapping[str, str]) -> set[str]:
        """Names of all policies that may choose a pod with these labels in such a namespace."""
        found = set(self._by.get((), ()))
        for whose, labels in (("pod", pod), ("namespace", namespace)):
            for key, value in labels.items():
                found |= self._by.get((whose, key, value), _NOBODY)
                found |= self._by.get((whose, key), _NOBODY)
        return found


_NOBODY: frozenset[str] = frozenset()


def _clues(whose: str, selector: selectors.Selector) -> Iterable[list[Clue]]:
    for requirement in selector.requirements:
        if requirement.operator is selectors.Operator.EXISTS:
            yield [(whose, requirement.key)]
        elif requirement.operator is selectors.Operator.IN:
            yield [(whose, requirement.key, value) for value in sorted(requirement.values)]
