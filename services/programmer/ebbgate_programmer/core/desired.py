"""Desired: the rows that one node needs, decoded, out of two agreed scopes. Between scopes and lowering.

A row that doesn't decode is a Problem and stops nothing else; what depends on it is dropped and not let out
(fail closed): a pod whose endpoint row can't be read is covered without an endpoint, a set of which a chunk
can't be read counts as missing. Only sets and groups that local endpoints use are decoded at all.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.contracts.reports import Problem
from ebbgate_programmer.core import scopes, soundness

RowT = TypeVar("RowT", bound=Message)


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """`blind`: pod IPs whose endpoint row can't be read. `sets`: complete ones only. `egress`: by slot."""

    node: str
    endpoints: tuple[rows.Endpoint, ...] = ()
    blind: tuple[str, ...] = ()
    egress: Mapping[int, rows.Egress] = {}
    sets: Mapping[str, tuple[rows.Route, ...]] = {}
    groups: Mapping[str, rows.Group] = {}
    peers: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def read(node: str, shared: scopes.Agreed, own: scopes.Agreed) -> Desired:
    """What `node` needs of the rows of both scopes."""
    problems: list[Problem] = []
    by_kind = _by_kind(shared.rows, own.rows)
    endpoints, blind = _decode(by_kind.get("plan.endpoint", {}), rows.Endpoint, problems)
    egress, _ = _decode(by_kind.get("plan.egress", {}), rows.Egress, problems)
    peers, _ = _decode(by_kind.get("plan.peer", {}), rows.Peer, problems)
    cluster, _ = _decode(by_kind.get("plan.cluster", {}), rows.Cluster, problems)
    sets = _sets(by_kind.get("plan.set", {}), {row.set for row in endpoints.values()}, problems)
    return Desired(
        node=node,
        endpoints=tuple(row for _, row in sorted(endpoints.items())),
        blind=tuple(sorted(filter(soundness.is_address, map(_id, blind)))),
        egress={int(_id(subject)): row for subject, row in sorted(egress.items())},
        sets=sets,
        groups=_groups(shared.rows, sets, problems),
        peers=tuple(sorted({address for row in peers.values() for address in row.addresses})),
        cluster=tuple(sorted({row.cidr for row in cluster.values()})),
        problems=tuple(problems),
    )


def _by_kind(*held: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    """Rows by what their subjects say; a subject nobody knows is left out, it may be a newer version's."""
    kinds: dict[str, dict[str, bytes]] = {}
    for rows_of_scope in held:
        for subject, payload in rows_of_scope.items():
            name = subjects.parse(subject)
            if name is not None:
                kinds.setdefault(name.kind, {})[subject] = payload
    return kinds


def _decode(
    held: Mapping[str, bytes], form: type[RowT], problems: list[Problem]
) -> tuple[dict[str, RowT], list[str]]:
    """The rows that can be used, and the subjects of those that can't."""
    found: dict[str, RowT] = {}
    unread: list[str] = []
    for subject in sorted(held):
        row, why = _read(subject, held[subject])
        if why:
            problems.append(Problem(reason=why, row=subject))
            unread.append(subject)
        else:
            assert isinstance(row, form), subject
            found[subject] = row
    return found, unread


def _read(subject: str, payload: bytes) -> tuple[object, str]:
    """The row, and what is wrong with it."""
    try:
        row = codec.decode(subject, payload)
    except codec.Undecodable as error:
        return None, str(error)
    name = subjects.parse(subject)
    assert name is not None, subject
    why = soundness.fault(name, row) if isinstance(row, Message) else ""
    return row, f"{subject}: {why}" if why else ""


def _sets(
    chunks: Mapping[str, bytes], wanted: set[str], problems: list[Problem]
) -> dict[str, tuple[rows.Route, ...]]:
    by_set: dict[str, dict[str, bytes]] = {}
    for subject, payload in chunks.items():
        by_set.setdefault(_set_id(subject), {})[subject] = payload
    sets: dict[str, tuple[rows.Route, ...]] = {}
    for set_id in sorted(wanted & by_set.keys()):
        decoded, unread = _decode(by_set[set_id], rows.Routes, problems)
        if not unread:
            routes = [route for row in decoded.values() for route in row.routes]
            sets[set_id] = tuple(sorted(routes, key=lambda route: route.cidr))
    return sets


def _groups(
    shared: Mapping[str, bytes], sets: Mapping[str, tuple[rows.Route, ...]], problems: list[Problem]
) -> dict[str, rows.Group]:
    """By policy uid; only those that routes of `sets` name."""
    uids = sorted({route.group for routes in sets.values() for route in routes if route.group})
    subject_of = {uid: subjects.group(uid) for uid in uids}
    held = {subject: shared[subject] for subject in subject_of.values() if subject in shared}
    decoded, _ = _decode(held, rows.Group, problems)
    return {uid: decoded[subject] for uid, subject in subject_of.items() if subject in decoded}


def _id(subject: str) -> str:
    name = subjects.parse(subject)
    assert name is not None, subject
    return name.ids[-1]


def _set_id(subject: str) -> str:
    name = subjects.parse(subject)
    assert name is not None, subject
    return name.ids[0]
