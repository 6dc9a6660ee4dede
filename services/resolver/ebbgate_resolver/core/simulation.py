"""simulate(before, after) → what would change: which pods' egress, and which policies' standing.

Leg: beside the walk, for people, before anything is applied. One engine is brought to the world before, and
then by the differences to the one after, each time until every gateway has answered and nothing changes. The
rows are compared as packets would meet them: a destination that only one of the two names is looked up in the
other by longest prefix; pods that nothing of theirs changed for aren't looked at. Nothing here is written
anywhere.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import addresses, inventory
from ebbgate_resolver.core.incremental import incremental
from ebbgate_resolver.core.people import verdicts, ways
from ebbgate_resolver.core.plan import freed, held, wanted

ROUNDS_MAX = 20
"""Steps until nothing changes any more; a handful is usual."""
Facts = Mapping[str, Message]
"""Subject → fact, of all kinds."""


class Change(msgspec.Struct, frozen=True, order=True):
    """Of the packets from one address of a pod to one destination CIDR."""

    pod: str
    source: str
    destination: str
    before: ways.Way
    after: ways.Way


class Standing(msgspec.Struct, frozen=True, order=True):
    """Of a policy: "absent", "ready", or the reason why it isn't, and what it lost."""

    policy: str
    before: str
    after: str


class Simulation(msgspec.Struct, frozen=True):
    """`never`, `no_longer_never`: cluster-internal CIDRs that come and go, with their source."""

    changes: tuple[Change, ...] = ()
    policies: tuple[Standing, ...] = ()
    never: tuple[str, ...] = ()
    no_longer_never: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.changes or self.policies or self.never or self.no_longer_never)


class _World:
    """Where everything is known, what is written is stored at once, and every node has what it is told."""

    def __init__(self, plan: held.Held, setting: tuple[str, ...]) -> None:
        self.known = inventory.Inventory()
        self._plan = held.Held()
        self._engine = incremental.Incremental(self.known, setting)
        self._difference = wanted.Difference()
        for subject, payload in plan.rows.items():
            self._plan.put(subject, payload)
        # What is to go in a simulation is gone: nothing is still to be listed.
        for kind in facts.KINDS:
            self.known.fold(subjects.synced(kind), facts.Synced(kind=kind))

    @property
    def rows(self) -> dict[str, bytes]:
        """Those that are wanted; an egress row that stays for a while only is no way for a packet."""
        return self._engine.wanted.rows

    def go(self, before: Facts, after: Facts) -> set[str]:
        """From the facts before to those after; the policies to which it may make a difference."""
        for subject in before.keys() | after.keys():
            if before.get(subject) is not after.get(subject):
                self.known.fold(subject, after.get(subject, facts.GONE))
        touched: set[str] = set()
        for _ in range(ROUNDS_MAX):
            self._answer()
            touched |= self._update()
            if not self._difference.changes:
                return touched
            for subject, payload in self._difference.changes.items():
                self._plan.put(subject, payload)
        raise AssertionError(f"the rows still change after {ROUNDS_MAX} rounds")

    def _update(self) -> set[str]:
        of_plan, rows_ = self._plan.take_touched(), self._engine.wanted
        following = incremental.Following(self._plan, freed.Freed(), replaced=False)
        update = self._engine.update(self.known.take_touched(), of_plan, following)
        self._difference.refresh(rows_.take_touched() | of_plan.rows, rows_, self._plan)
        return update.policies

    def _answer(self) -> None:
        slots: dict[str, dict[str, str]] = {node: {} for node in self.known.nodes}
        for (node, slot), row in self._plan.egress.items():
            slots.get(node, {})[str(slot)] = row.egress_ip
        for node, of_node in slots.items():
            self.known.fold(subjects.status(node), reports.Applied(node=node, slots=of_node))

    def standing(self, policy: str) -> str:
        if policy not in self.known.policies:
            return "absent"
        programmed = {policy: set(self.known.nodes)}
        progress = msgspec.structs.replace(self._engine.progress(policy), programmed=programmed)
        return standing_text(verdicts.verdict(policy, progress))


def simulate(before: Facts, after: Facts, plan: held.Held, setting: tuple[str, ...] = ()) -> Simulation:
    """`plan`: what is held now, for slots and versions in force; what `before` needs stays for `after`."""
    world = _World(plan, setting)
    world.go({}, before)
    standings = {name: world.standing(name) for name in world.known.policies}
    rows_before = dict(world.rows)
    touched = world.go(before, after)
    compared = (Standing(name, standings.get(name, "absent"), world.standing(name)) for name in touched)
    old, new = _tables(rows_before, world.rows)
    return Simulation(
        changes=tuple(sorted(_changes(old, new))),
        policies=tuple(sorted(each for each in compared if each.before != each.after)),
        never=_apart(new, old),
        no_longer_never=_apart(old, new),
    )


def _tables(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> tuple[ways.Table, ways.Table]:
    """With those endpoints only whose packets may fare otherwise."""
    tables = [ways.table({s: row for s, row in each.items() if not _is_endpoint(s)}) for each in (old, new)]
    concerned = ways.concerned(*tables)
    for table, rows_, others in zip(tables, (old, new), (new, old), strict=True):
        for subject, payload in rows_.items():
            if not _is_endpoint(subject):
                continue
            row = codec.decode(subject, payload)
            if isinstance(row, rows.Endpoint) and (row.set in concerned or others.get(subject) != payload):
                table.endpoints[row.pod, row.ip] = row
    return tables[0], tables[1]


def _is_endpoint(subject: str) -> bool:
    return subject.startswith(".endpoint.", len(subjects.scope_of(subject)))


def _apart(one: ways.Table, other: ways.Table) -> tuple[str, ...]:
    return tuple(
        f"{cidr} ({one.cluster[cidr]})" for cidr in sorted(one.cluster.keys() - other.cluster.keys())
    )


def standing_text(verdict: reports.Verdict) -> str:
    wrong = [
        f"{each.reason}: {each.message}"
        for each in verdict.conditions
        if (each.status == reports.Truth.TRUE) == (each.type == "Conflict")
    ]
    return "; ".join(wrong) or "ready"


def _changes(old: ways.Table, new: ways.Table) -> Iterator[Change]:
    """Pods of the same set and bucket share their answer, so that it is found once for all of them."""
    asked: dict[tuple[object, ...], tuple[tuple[str, ways.Way, ways.Way], ...]] = {}
    for key in old.endpoints.keys() | new.endpoints.keys():
        one, other = old.endpoints.get(key), new.endpoints.get(key)
        family = addresses.family_of_text(key[1])
        place = (_seat(one), _seat(other), family)
        if place not in asked:
            asked[place] = tuple(_different(old, new, (one, other), family))
        for cidr, before, after in asked[place]:
            yield Change(key[0], key[1], cidr, before, after)


def _seat(endpoint: rows.Endpoint | None) -> tuple[str, int] | None:
    return (endpoint.set, endpoint.bucket) if endpoint else None


def _different(
    old: ways.Table,
    new: ways.Table,
    endpoints: tuple[rows.Endpoint | None, rows.Endpoint | None],
    family: str,
) -> Iterator[tuple[str, ways.Way, ways.Way]]:
    cidrs: set[str] = set()
    for table, endpoint in zip((old, new), endpoints, strict=True):
        cidrs.update(_destinations(table, endpoint, family))
    for cidr in sorted(cidrs, key=addresses.network_order):
        before, after = (
            table.way(endpoint, cidr) for table, endpoint in zip((old, new), endpoints, strict=True)
        )
        if before.seen != after.seen:
            yield cidr, before, after


def _destinations(table: ways.Table, endpoint: rows.Endpoint | None, family: str) -> Iterable[str]:
    routes = table.routes.get(endpoint.set, {}) if endpoint else {}
    return (cidr for cidr in routes if addresses.family_of_text(cidr) == family)
