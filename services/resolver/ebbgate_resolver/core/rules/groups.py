"""Group and egress rows: for each policy its gateways by bucket, and on each gateway its slots.

Leg: a part of Inventory → Rows: chosen gateways → wishes for slots → aims → paths through the gate.
"""

from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import rows, subjects
from ebbgate_resolver.core import addresses
from ebbgate_resolver.core.rules import gate, gateways, policies, slots

Chosen = Mapping[str, tuple[gateways.Gateway, ...]]
"""Policy name → its gateways."""


class Standing(msgspec.Struct, frozen=True):
    """What paths are made from, besides the policy."""

    gate: gate.Gate
    assigned: dict[slots.Wish, int]
    old: Mapping[str, rows.Group]


def wishes(chosen: Chosen) -> set[slots.Wish]:
    return {
        (gateway.node, address.ip)
        for found in chosen.values()
        for gateway in found
        for address in gateway.egress.values()
    }


def egress_rows(chosen: Chosen, assigned: Mapping[slots.Wish, int]) -> dict[str, rows.Egress]:
    """Subject → row, for every wish that got a slot."""
    users: dict[slots.Wish, set[str]] = {}
    interfaces: dict[slots.Wish, str] = {}
    for name, found in sorted(chosen.items()):
        for gateway in found:
            for address in gateway.egress.values():
                wish = (gateway.node, address.ip)
                users.setdefault(wish, set()).add(name)
                interfaces.setdefault(wish, address.interface)
    return {
        subjects.egress(node, slot): rows.Egress(
            egress_ip=ip, interface=interfaces[node, ip], policies=tuple(sorted(users[node, ip]))
        )
        for (node, ip), slot in sorted(assigned.items())
    }


def group_row(policy: policies.Policy, found: tuple[gateways.Gateway, ...], standing: Standing) -> rows.Group:
    old = standing.old.get(policy.uid)
    shared = gateways.share(found)
    by_key = gateways.by_key(found)
    by_family: dict[str, rows.Paths] = {}
    awaiting: set[str] = set()
    for family in policy.families:
        aims = {key: _aim(gateway, family, standing) for key, gateway in by_key.items()}
        before = _old(old, family, policy.traffic)
        by_family[family], awaited = gate.paths(standing.gate, [aims.get(key) for key in shared], before)
        awaiting |= awaited
    return rows.Group(
        policy=policy.name,
        ipv4=by_family.get("ipv4"),
        ipv6=by_family.get("ipv6"),
        awaiting=tuple(sorted(awaiting)),
        traffic=policy.traffic,
    )


def _old(row: rows.Group | None, family: str, traffic: str) -> gate.Old | None:
    paths = (row.ipv4 if family == addresses.FAMILIES[0] else row.ipv6) if row else None
    return gate.Old(paths, row.traffic == traffic) if row and paths else None


def _aim(gateway: gateways.Gateway, family: str, standing: Standing) -> gate.Aim:
    address = gateway.egress.get(family)
    slot = standing.assigned.get((gateway.node, address.ip)) if address else None
    if address is None or slot is None:
        return gate.Aim(gateway.node, gateway.gateway_ip)
    return gate.Aim(gateway.node, gateway.gateway_ip, slot, address.ip)
