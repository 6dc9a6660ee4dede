"""simulate(before, after) → what would change: which pods' egress, and which policies' standing.

Leg: beside the walk, for people, before anything is applied. Both worlds are resolved in full, each until its
gateways have answered, and their rows are compared as packets would meet them: a destination that only one of
the two names is looked up in the other by longest prefix. Nothing here is written anywhere.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ebbgate_bus.contracts import facts, reports, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import addresses, held, inventory, resolve, verdicts, ways

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


class _Settled(msgspec.Struct, frozen=True):
    plan: held.Held
    table: ways.Table
    standings: dict[str, str]


def simulate(before: Facts, after: Facts, plan: held.Held, setting: tuple[str, ...] = ()) -> Simulation:
    """`plan`: what is held now, for slots and versions in force; what `before` needs stays for `after`."""
    old = _settle(before, plan, setting)
    new = _settle(after, old.plan, setting)
    named = sorted(old.standings.keys() | new.standings.keys())
    standings = (
        Standing(name, old.standings.get(name, "absent"), new.standings.get(name, "absent")) for name in named
    )
    return Simulation(
        changes=tuple(sorted(_changes(old.table, new.table))),
        policies=tuple(each for each in standings if each.before != each.after),
        never=_apart(new.table, old.table),
        no_longer_never=_apart(old.table, new.table),
    )


def _apart(one: ways.Table, other: ways.Table) -> tuple[str, ...]:
    return tuple(
        f"{cidr} ({one.cluster[cidr]})" for cidr in sorted(one.cluster.keys() - other.cluster.keys())
    )


def _settle(known_facts: Facts, plan: held.Held, setting: tuple[str, ...]) -> _Settled:
    """Resolve, let every node answer, resolve again: now each path that can open is open."""
    known = inventory.Inventory()
    # What is to go in a simulation is gone: nothing is still to be listed.
    synced = {subjects.synced(kind): facts.Synced(kind=kind) for kind in facts.KINDS}
    for subject, fact in {**known_facts, **synced}.items():
        known.fold(subject, fact)
    for _ in range(2):
        resolution = resolve.resolve(known, resolve.Previous(plan), setting)
        plan = _stored(resolution.wanted | resolution.retained)
        for report in _answers(known, plan):
            known.fold(subjects.status(report.node), report)
    programmed = {name: set(known.nodes) for name in known.policies}
    buckets = verdicts.count_buckets(resolution.matched)
    progress = verdicts.Progress(known, resolution, programmed, buckets)
    standings = {name: _standing(verdicts.verdict(name, progress)) for name in known.policies}
    return _Settled(plan, ways.table(resolution.wanted), standings)


def _stored(payloads: Mapping[str, bytes]) -> held.Held:
    plan = held.Held()
    for subject, payload in payloads.items():
        plan.put(subject, payload)
    return plan


def _answers(known: inventory.Inventory, plan: held.Held) -> Iterator[reports.Applied]:
    slots: dict[str, dict[str, str]] = {node: {} for node in known.nodes}
    for (node, slot), row in plan.egress.items():
        slots.get(node, {})[str(slot)] = row.egress_ip
    for node, held_slots in slots.items():
        yield reports.Applied(node=node, slots=held_slots)


def _standing(verdict: reports.Verdict) -> str:
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
