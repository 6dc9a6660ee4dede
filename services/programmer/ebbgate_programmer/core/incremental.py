"""Rows → KernelState at the cost of what changed: what runs in place of `desired.read` and `lowering.lower`.

It must give what these give, for any rows after any others: a property compares them. It keeps what it made
last, and looks at rows that differ. Pods are followed one by one (`pods`), sets one by one as far as pods
here are in them. What is left is small beside these; each kind of it is made anew, by the plain functions,
when a row of that kind changed.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

import msgspec

from ebbgate_bus.contracts import rows, subjects
from ebbgate_bus.contracts.reports import Problem
from ebbgate_programmer.core import addresses, desired, lowering, pods, scopes, sharded
from ebbgate_programmer.core.kernelstate import RouteKey, RouteValue
from ebbgate_programmer.core.lowering import Content

ValueT = TypeVar("ValueT")
Framing = tuple[desired.Desired, lowering.Asked, lowering.Environment]


class Lowering:
    """Of one node, and what it lowered last."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._pods, self._sets = pods.Pods(node), _Sets()
        self._shared = _Kinds(subjects.ALL_SCOPE, "set", self._sets.take)
        self._own = _Kinds(subjects.node_scope(node), "endpoint", self._pods.take)
        self._starts: frozenset[lowering.Start] = frozenset()
        self._known: pods.Known = {}
        self._routes: sharded.Sharded[RouteKey, RouteValue] = sharded.Sharded()
        self._egress: _Part[dict[int, rows.Egress]] = _Part({})
        self._peers: _Part[tuple[desired.Addresses, desired.Addresses]] = _Part(((), ()))
        self._cluster: _Part[tuple[str, ...]] = _Part(())
        self._groups: _Part[dict[str, rows.Group]] = _Part({})
        self._given: tuple[scopes.Agreed, scopes.Agreed, lowering.Environment] | None = None
        self._framed: tuple[Framing, lowering.Lowered] | None = None
        self._lowered = lowering.Lowered(state=lowering.NOTHING)

    def lower(
        self, agreed: tuple[scopes.Agreed, scopes.Agreed], environment: lowering.Environment
    ) -> lowering.Lowered:
        """The same object for as long as neither plan nor node changes."""
        if self._given != (*agreed, environment):
            self._follow(*agreed)
            self._lowered = self._put_together(environment, agreed[1].rows)
            self._given = (*agreed, environment)
        return self._lowered

    def _follow(self, all_: scopes.Agreed, own_: scopes.Agreed) -> None:
        shared, own = self._shared.follow(all_.rows), self._own.follow(own_.rows)
        self._starts = self._pods.count()
        known = self._sets.use({place for place, _ in self._starts})
        self._pods.settle(own_.rows, known, self._known)
        self._routes = _exchanged(self._routes, self._known, known)
        self._known = known
        self._egress.make("egress" in own, lambda found: desired.egress(self._own.of["egress"], found))
        self._peers.make(
            "peer" in shared, lambda found: desired.peers(self._node, self._shared.of["peer"], found)
        )
        self._cluster.make(
            "cluster" in shared, lambda found: desired.cluster(self._shared.of["cluster"], found)
        )
        self._groups.make(
            "group" in shared or self._sets.uids != self._groups.made_for,
            lambda found: desired.groups(self._shared.of["group"], self._sets.uids, found),
        )
        self._groups.made_for = self._sets.uids

    def _put_together(self, environment: lowering.Environment, held: Mapping[str, bytes]) -> lowering.Lowered:
        plan = desired.Desired(
            node=self._node,
            egress=self._egress.value,
            groups=self._groups.value,
            peers=self._peers.value[0],
            own=self._peers.value[1],
            cluster=self._cluster.value,
        )
        contents = {at: content for at, content in self._known.items() if content is not None}
        framed = self._frame(plan, lowering.Asked(contents, self._starts), environment)
        parts = (self._egress, self._peers, self._cluster, self._sets, self._groups)
        return lowering.Lowered(
            state=msgspec.structs.replace(
                framed.state,
                covered=self._pods.covered,
                endpoints=self._pods.endpoints,
                routes=self._routes,
            ),
            families=framed.families | self._covered_families(),
            names=msgspec.structs.replace(framed.names, pods=pods.Names(self._node, held)),
            problems=(
                *self._pods.unread,
                *(problem for part in parts for problem in part.problems),
                *self._pods.lacking,
                *framed.problems,
            ),
        )

    def _frame(self, *given: *Framing) -> lowering.Lowered:
        """Most pods come to where others are."""
        if self._framed is None or self._framed[0] != given:
            self._framed = given, lowering.frame(*given)
        return self._framed[1]

    def _covered_families(self) -> set[str]:
        """Told by places in use: pods may be many. Where a set has nothing for a family, none is covered."""
        used = {at[1] for at, content in self._known.items() if content is None or content.routes}
        return used | set(map(addresses.family, self._pods.blind))


class _Part(Generic[ValueT]):
    """What is made of all rows of a kind, and what is wrong with these. `made_for`: what else it needs."""

    def __init__(self, value: ValueT) -> None:
        self.value = value
        self.problems: list[Problem] = []
        self.made_for: Collection[str] = ()

    def make(self, anew: bool, how: Callable[[list[Problem]], ValueT]) -> None:
        if anew:
            self.problems = []
            self.value = how(self.problems)


class _Kinds:
    """Rows of a scope. `of`: kind → subject → row, but for those of the kind `apart`, which `take` is called
    with one by one: there may be tens of thousands.
    """

    def __init__(
        self, scope: str, apart: str, take: Callable[[sharded.Difference[str, bytes]], None]
    ) -> None:
        self._start = len(scope) + 1
        self._prefix, self._take = f"{scope}.{apart}.", take
        self._rows: Mapping[str, bytes] = sharded.Sharded()
        self.of: defaultdict[str, dict[str, bytes]] = defaultdict(dict)

    def follow(self, held: Mapping[str, bytes]) -> set[str]:
        """Kinds of which something changed."""
        changed = set()
        for each in sharded.differences(held, self._rows):
            if each[0].startswith(self._prefix):
                self._take(each)
            else:
                changed.add(self._keep(each))
        self._rows = held
        return changed

    def _keep(self, difference: sharded.Difference[str, bytes]) -> str:
        """Of which kind it is."""
        subject, new, _ = difference
        kind, dot, _ = subject[self._start :].partition(".")
        if not dot:
            return ""
        if isinstance(new, bytes):
            self.of[kind][subject] = new
        else:
            del self.of[kind][subject]
        return kind


class _Set(msgspec.Struct, frozen=True):
    """`contents`: by family; none if a part of the set isn't known. `uids`: groups of all its routes."""

    contents: Mapping[str, Content] = {}
    uids: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


class _Sets:
    """Sets that pods here are in, and the rows of all."""

    def __init__(self) -> None:
        self._chunks: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self._stale: set[str] = set()
        self._used: dict[str, _Set] = {}
        self.uids: frozenset[str] = frozenset()

    @property
    def problems(self) -> list[Problem]:
        return [problem for _, used in sorted(self._used.items()) for problem in used.problems]

    def take(self, difference: sharded.Difference[str, bytes]) -> None:
        subject, new, _ = difference
        name = desired.set_of(subject)
        self._stale.add(name)
        if isinstance(new, bytes):
            self._chunks[name][subject] = new
        else:
            del self._chunks[name][subject]
        if not self._chunks[name]:
            del self._chunks[name]

    def use(self, places: Collection[lowering.Place]) -> pods.Known:
        """What is known of `places`; of others nothing is, from now on."""
        before = self._used
        self._used = {}
        for name in {name for name, _ in places}:
            if name in before and name not in self._stale:
                self._used[name] = before[name]
            else:
                self._used[name] = _read(self._chunks.get(name, {}), before.get(name, _Set()).contents)
        self._stale = set()
        self.uids = frozenset().union(*(used.uids for used in self._used.values()))
        return {(name, family): self._used[name].contents.get(family) for name, family in places}


def _read(chunks: Mapping[str, bytes], before: Mapping[str, Content]) -> _Set:
    """The same objects as `before` for content that is the same: its id says so."""
    problems: list[Problem] = []
    routes = desired.routes(chunks, problems) if chunks else None
    if routes is None:
        return _Set(problems=tuple(problems))
    contents = {family: lowering.content(routes, family) for family in addresses.FAMILIES}
    for family, content in contents.items():
        if family in before and before[family].id == content.id:
            contents[family] = before[family]
    return _Set(contents, frozenset(route.group for route in routes), tuple(problems))


def _exchanged(
    routes: sharded.Sharded[RouteKey, RouteValue], before: pods.Known, after: pods.Known
) -> sharded.Sharded[RouteKey, RouteValue]:
    """By id, as two sets may have the same content."""
    old = {content.id: content.routes for content in before.values() if content is not None}
    new = {content.id: content.routes for content in after.values() if content is not None}
    gone = [key for number in old.keys() - new.keys() for key in old[number]]
    come = {key: to for number in new.keys() - old.keys() for key, to in new[number].items()}
    return routes.changed(come, gone)
