"""The gate: a path opens only when its gateway has said that the slot is in its kernel. Gateways first.

Leg: a part of Inventory → Rows. Compares slot and egress IP as the gateway's Applied shows them, never
revisions: a revision says what was asked for, the report what is there. Until then an old path stays, as long
as it leads to where it always did, and for the traffic that it was for: if a policy gets another gateway and
another destination at once, nobody meant that destination to see the old egress IP. Without an old path the
traffic is dropped. It must never answer with a path whose egress row isn't wanted or held: the packet would
reach a gateway that doesn't know its slot.
"""

from collections.abc import Mapping, Sequence

import msgspec

from ebbgate_bus.contracts import rows
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.rules import gateways, slots


class Aim(msgspec.Struct, frozen=True):
    """Where a bucket should lead in one family. `slot`: NO_SLOT if there is no egress IP."""

    node: str
    gateway_ip: str
    slot: int = rows.NO_SLOT
    egress_ip: str = ""


class Gate(msgspec.Struct, frozen=True):
    known: inventory.Inventory
    held: Mapping[slots.Place, rows.Egress]


class Old(msgspec.Struct, frozen=True):
    """Paths of one family as PLAN holds them. `same_traffic`: they are for what the policy chooses now."""

    paths: rows.Paths
    same_traffic: bool


def paths(gate: Gate, aims: Sequence[Aim | None], old: Old | None) -> tuple[rows.Paths, frozenset[str]]:
    """For one family: bucket → path, and the nodes that are awaited. `aims`: one for each bucket."""
    wanted = [_path(gate, aim, _usable(old, bucket, aim)) for bucket, aim in enumerate(aims)]
    distinct = sorted({path for path in wanted if path}, key=lambda path: (path.node, path.slot))
    index = {path: i for i, path in enumerate(distinct)}
    buckets = tuple(index[path] if path else rows.NO_PATH for path in wanted)
    return rows.Paths(paths=tuple(distinct), buckets=buckets), _awaited(aims, wanted)


def _path(gate: Gate, aim: Aim | None, old: rows.Path | None) -> rows.Path | None:
    """
    | gateway | egress IP | in its kernel | old path stands | path |
    |---|---|---|---|---|
    | none | - | - | - | none: drops |
    | found | none | - | - | without slot: drops |
    | found | found | yes | - | the new one |
    | found | found | no | yes | the old one |
    | found | found | no | no | without slot: drops |
    """
    if aim is None:
        return None
    if aim.slot and _is_open(gate, aim):
        return rows.Path(aim.node, aim.gateway_ip, aim.slot)
    standing = _standing(gate, old) if aim.slot else None
    return standing or rows.Path(aim.node, aim.gateway_ip, rows.NO_SLOT)


def _awaited(aims: Sequence[Aim | None], given: Sequence[rows.Path | None]) -> frozenset[str]:
    """Nodes on which a slot is to be used that no path leads to yet."""
    both = zip(aims, given, strict=True)
    return frozenset(aim.node for aim, path in both if aim and path and aim.slot and not _is_to(path, aim))


def _is_to(path: rows.Path, aim: Aim) -> bool:
    return (path.node, path.slot) == (aim.node, aim.slot)


def _is_open(gate: Gate, aim: Aim) -> bool:
    report = gate.known.report(aim.node)
    return report is not None and report.slots.get(str(aim.slot)) == aim.egress_ip


def _standing(gate: Gate, old: rows.Path | None) -> rows.Path | None:
    """The old path, if its gateway still exists, alone at its address, and still has that egress IP."""
    row = gate.held.get((old.node, old.slot)) if old else None
    if old is None or row is None or old.node not in gate.known.nodes or gateways.twins(old.node, gate.known):
        return None
    network = gate.known.network(old.node)
    has_ip = network and any(gateways.has_address(each, row.egress_ip) for each in network.interfaces)
    gateway_ip = gateways.address_of(gate.known.nodes[old.node])
    return rows.Path(old.node, gateway_ip, old.slot) if has_ip and gateway_ip else None


def _usable(old: Old | None, bucket: int, aim: Aim | None) -> rows.Path | None:
    """
    | old path | traffic | it leads to the aim | usable |
    |---|---|---|---|
    | none | - | - | none |
    | found | the same | - | the old one |
    | found | another | yes | the old one |
    | found | another | no | none |
    """
    path = _of_bucket(old.paths, bucket) if old else None
    if old is None or path is None or aim is None:
        return None
    return path if old.same_traffic or _is_to(path, aim) else None


def _of_bucket(paths_: rows.Paths, bucket: int) -> rows.Path | None:
    if not 0 <= bucket < len(paths_.buckets):
        return None
    i = paths_.buckets[bucket]
    return paths_.paths[i] if 0 <= i < len(paths_.paths) else None
