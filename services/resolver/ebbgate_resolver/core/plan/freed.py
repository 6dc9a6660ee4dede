"""Freed slots: which numbers must not be used again yet, and what they named.

Leg: beside PLAN ─▶ resolve. A slot is free when its egress row is gone, and reserved while that row's
tombstone can still be read: a source that missed the change would send its traffic out with another's
address. Time is an argument; slots come due in order, so that a step looks at the first only.
"""

import heapq
from collections.abc import Mapping

import msgspec

from ebbgate_resolver.core.rules import slots

RESERVED_S = 3600.0
"""A freed slot isn't used again while its tombstone can still be read (streams.TOMBSTONE_TTL)."""


class Freeing(msgspec.Struct, frozen=True):
    """`egress_ip`: what the slot named, or empty if that isn't known any more."""

    since_s: float
    egress_ip: str = ""


class Freed:
    def __init__(self) -> None:
        self._all: dict[slots.Place, Freeing] = {}
        self._of_node: dict[str, dict[slots.Place, str]] = {}
        self._due: list[tuple[float, slots.Place]] = []
        self._touched: set[str] = set()

    @property
    def reserved(self) -> dict[slots.Place, str]:
        """Slot → egress IP that it had."""
        return {place: freeing.egress_ip for place, freeing in self._all.items()}

    def of_node(self, node: str) -> Mapping[slots.Place, str]:
        return self._of_node.get(node, {})

    def put(self, place: slots.Place, freeing: Freeing) -> None:
        self._all[place] = freeing
        self._of_node.setdefault(place[0], {})[place] = freeing.egress_ip
        heapq.heappush(self._due, (freeing.since_s, place))
        self._touched.add(place[0])

    def take_back(self, place: slots.Place) -> None:
        """The slot is in use again."""
        if self._all.pop(place, None) is None:
            return
        of_node = self._of_node[place[0]]
        del of_node[place]
        if not of_node:
            del self._of_node[place[0]]
        self._touched.add(place[0])

    def expire(self, now_s: float) -> None:
        while self._due and now_s - self._due[0][0] >= RESERVED_S:
            since_s, place = heapq.heappop(self._due)
            freeing = self._all.get(place)
            if freeing is not None and freeing.since_s == since_s:
                self.take_back(place)

    def remember(self, before: "Freed") -> None:
        """What was known before PLAN was read anew, which knows neither since when nor what for."""
        for place, freeing in before._all.items():
            self.put(place, freeing)

    def take_touched(self) -> set[str]:
        """Gateways whose reserved slots are others than when last asked."""
        touched, self._touched = self._touched, set()
        return touched
