"""What the kernel counted and told, in the words of policies and pods. Kernel ─▶ Stats and Dropped.

The BPF maps know groups and slots; whose these are is known from the rows. Pure: numbers in, messages out.
"""

from collections.abc import Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import reports, rows
from ebbgate_programmer.core import layout

Key = tuple[int, int]
"""Group, and the counter's number."""


class Names(msgspec.Struct, frozen=True):
    """`policies`: group id → policy. `pods`: address → namespace/name. `slots`: of this node."""

    policies: Mapping[int, str] = {}
    pods: Mapping[str, str] = {}
    slots: Mapping[int, rows.Egress] = {}


class Counted(msgspec.Struct, frozen=True):
    """`counters`: as in layout.COUNTERS. `guards`: rule of the guards' chains → packets. `refused`:
    connections that conntrack couldn't take.
    """

    counters: Mapping[str, int] = {}
    groups: Mapping[Key, reports.Traffic] = {}
    slots: Mapping[int, reports.Traffic] = {}
    guards: Mapping[str, int] = {}
    refused: int = 0


_REASONS = {"no_path": "no_gateway"}
"""Where the kernel's word isn't the user's."""
_OF_GUARDS = {
    "unseen": "unclassified",
    "invalid": "no_connection",
    "elsewhere": "unrouted",
    "unrouted": "unrouted",
    "source": "not_translated",
    "untranslated": "not_translated",
}
_DROP = "drop_"


def reason(counter: str) -> str:
    name = counter.removeprefix(_DROP)
    return _REASONS.get(name, name)


def stats(node: str, counted: Counted, names: Names) -> reports.Stats:
    by_policy: dict[str, dict[str, reports.Traffic]] = {}
    for (group, number), traffic in counted.groups.items():
        if group in names.policies:
            of_policy = by_policy.setdefault(names.policies[group], {})
            name = _counter(number)
            of_policy[name] = _sum(of_policy.get(name, reports.Traffic()), traffic)
    return reports.Stats(
        node=node,
        policies={policy: _of_policy(found) for policy, found in sorted(by_policy.items())},
        slots={str(slot): _of_slot(slot, counted, row) for slot, row in sorted(names.slots.items())},
        drops=_drops(counted),
    )


def stale(counted: Counted, names: Names) -> list[Key]:
    """What is counted of groups that nobody here asks for any more."""
    return [key for key in counted.groups if key[0] not in names.policies]


def _counter(number: int) -> str:
    return "connections" if number == layout.CONNECTIONS else layout.COUNTERS[number]


def _sum(one: reports.Traffic, other: reports.Traffic) -> reports.Traffic:
    return reports.Traffic(one.packets + other.packets, one.bytes + other.bytes)


def _of_policy(found: Mapping[str, reports.Traffic]) -> reports.PolicyTraffic:
    nothing = reports.Traffic()
    return reports.PolicyTraffic(
        steered=found.get("steered", nothing),
        local=found.get("local", nothing),
        connections=found.get("connections", nothing).packets,
        drops={reason(name): each.packets for name, each in sorted(found.items()) if name.startswith(_DROP)},
    )


def _of_slot(slot: int, counted: Counted, row: rows.Egress) -> reports.SlotTraffic:
    arrived = counted.slots.get(slot, reports.Traffic())
    return reports.SlotTraffic(egress_ip=row.egress_ip, policies=row.policies, arrived=arrived)


def _drops(counted: Counted) -> dict[str, int]:
    pairs = [(reason(name), n) for name, n in counted.counters.items() if name.startswith(_DROP)]
    pairs += [(_OF_GUARDS[name], n) for name, n in counted.guards.items() if name in _OF_GUARDS]
    pairs.append(("ports_exhausted", counted.refused))
    return _totals(pairs)


def _totals(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for name, number in pairs:
        totals[name] = totals.get(name, 0) + number
    return {name: number for name, number in sorted(totals.items()) if number}


def dropped(node: str, told: layout.Told, names: Names) -> reports.Dropped:
    return reports.Dropped(
        node=node,
        reason=reason(told.counter),
        source=told.source,
        destination=told.destination,
        protocol=told.protocol,
        source_port=told.source_port,
        destination_port=told.destination_port,
        pod=names.pods.get(told.source, ""),
        policy=names.policies.get(told.group, ""),
    )
