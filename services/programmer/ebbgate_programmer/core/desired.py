"""Desired: the rows that one node needs, decoded, out of two agreed scopes. Between scopes and lowering.

A row that doesn't decode is a Problem and stops nothing else; what depends on it is dropped and not let out
(fail closed): a pod whose endpoint row can't be read is covered without an endpoint, a set of which a chunk
can't be read counts as missing. Only sets and groups that local endpoints use are decoded at all.
"""

import functools
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
    own: tuple[str, ...] = ()
    cluster: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def read(node: str, shared: scopes.Agreed, own: scopes.Agreed) -> Desired:
    """What `node` needs of the rows of both scopes."""
    problems: list[Problem] = []
    scope = subjects.node_scope(node)
    endpoints, blind = _decode(_under(f"{scope}.endpoint.", own), rows.Endpoint, problems)
    egress, _ = _decode(_under(f"{scope}.egress.", own), rows.Egress, problems)
    common = _common(shared)
    problems += common.problems
    sets = _sets(common.chunks, {row.set for row in endpoints.values()}, problems)
    return Desired(
        node=node,
        endpoints=tuple(row for _, row in sorted(endpoints.items())),
        blind=tuple(sorted(filter(soundness.is_address, map(_id, blind)))),
        egress={int(_id(subject)): row for subject, row in sorted(egress.items())},
        sets=sets,
        groups=_groups(shared.rows, sets, problems),
        peers=common.peers,
        own=common.addresses.get(subjects.peer(node), ()),
        cluster=common.cluster,
        problems=tuple(problems),
    )


class _Common(msgspec.Struct, frozen=True, kw_only=True):
    """What every node needs. `addresses`: subject of a peer → its. `chunks`: set → its rows, undecoded."""

    peers: tuple[str, ...]
    addresses: Mapping[str, tuple[str, ...]]
    cluster: tuple[str, ...]
    chunks: Mapping[str, Mapping[str, bytes]]
    problems: tuple[Problem, ...]


@functools.lru_cache(maxsize=1)
def _common(shared: scopes.Agreed) -> _Common:
    """Kept until the shared rows change: there are thousands, and most changes are of a node's own rows."""
    problems: list[Problem] = []
    peers, _ = _decode(_under(f"{subjects.ALL_SCOPE}.peer.", shared), rows.Peer, problems)
    cluster, _ = _decode(_under(f"{subjects.ALL_SCOPE}.cluster.", shared), rows.Cluster, problems)
    chunks: dict[str, dict[str, bytes]] = {}
    for subject, payload in _under(f"{subjects.ALL_SCOPE}.set.", shared).items():
        chunks.setdefault(_set_id(subject), {})[subject] = payload
    return _Common(
        peers=tuple(sorted({address for row in peers.values() for address in row.addresses})),
        addresses={subject: row.addresses for subject, row in peers.items()},
        cluster=tuple(sorted({row.cidr for row in cluster.values()})),
        chunks=chunks,
        problems=tuple(problems),
    )


def _under(prefix: str, agreed: scopes.Agreed) -> dict[str, bytes]:
    """Rows of one kind. Of a kind that nobody asks for nothing is said: it may be a newer version's."""
    return {subject: payload for subject, payload in agreed.rows.items() if subject.startswith(prefix)}


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
    chunks: Mapping[str, Mapping[str, bytes]], wanted: set[str], problems: list[Problem]
) -> dict[str, tuple[rows.Route, ...]]:
    sets: dict[str, tuple[rows.Route, ...]] = {}
    for set_id in sorted(wanted & chunks.keys()):
        decoded, unread = _decode(chunks[set_id], rows.Routes, problems)
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
