"""Desired: the rows that one node needs, decoded, out of two agreed scopes. Between scopes and lowering.

A row that doesn't decode is a Problem and stops nothing else; what depends on it is dropped and not let out
(fail closed): a pod whose endpoint row can't be read is covered without an endpoint, a set of which a chunk
can't be read counts as missing. Only sets and groups that local endpoints use are decoded at all. `read` is
the plain way, in full; `incremental` reads the same kinds of rows, and of them what changed.
"""

from collections.abc import Iterable, Mapping
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
    """What `node` needs of the rows of both scopes: the plain way, all of them."""
    problems: list[Problem] = []
    scope = subjects.node_scope(node)
    endpoints, blind = _decode(_under(f"{scope}.endpoint.", own), rows.Endpoint, problems)
    slots = egress(_under(f"{scope}.egress.", own), problems)
    known, reached = peers(node, _under(f"{subjects.ALL_SCOPE}.peer.", shared), problems)
    spared = cluster(_under(f"{subjects.ALL_SCOPE}.cluster.", shared), problems)
    chunks: dict[str, dict[str, bytes]] = {}
    for subject, payload in _under(f"{subjects.ALL_SCOPE}.set.", shared).items():
        chunks.setdefault(set_of(subject), {})[subject] = payload
    sets = _sets(chunks, {row.set for row in endpoints.values()}, problems)
    uids = {route.group for routes in sets.values() for route in routes}
    return Desired(
        node=node,
        endpoints=tuple(row for _, row in sorted(endpoints.items())),
        blind=tuple(sorted(filter(None, map(blind_pod, blind)))),
        egress=slots,
        sets=sets,
        groups=groups(shared.rows, uids, problems),
        peers=known,
        own=reached,
        cluster=spared,
        problems=tuple(problems),
    )


def egress(held: Mapping[str, bytes], problems: list[Problem]) -> dict[int, rows.Egress]:
    found, _ = _decode(held, rows.Egress, problems)
    return {int(_id(subject)): row for subject, row in sorted(found.items())}


Addresses = tuple[str, ...]


def peers(node: str, held: Mapping[str, bytes], problems: list[Problem]) -> tuple[Addresses, Addresses]:
    """Addresses of all nodes, and of this one."""
    found, _ = _decode(held, rows.Peer, problems)
    own = found.get(subjects.peer(node))
    return tuple(sorted({address for row in found.values() for address in row.addresses})), (
        own.addresses if own else ()
    )


def cluster(held: Mapping[str, bytes], problems: list[Problem]) -> tuple[str, ...]:
    found, _ = _decode(held, rows.Cluster, problems)
    return tuple(sorted({row.cidr for row in found.values()}))


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


def endpoint(subject: str, payload: bytes) -> rows.Endpoint | Problem:
    """One row; there may be tens of thousands."""
    try:
        row = codec.decode_as(rows.Endpoint, subject, payload)
    except codec.Undecodable as error:
        return Problem(reason=str(error), row=subject)
    why = soundness.of_endpoint(pod_of(subject), row)
    return Problem(reason=f"{subject}: {why}", row=subject) if why else row


def pod_of(subject: str) -> str:
    """What an endpoint row is about, by its subject: its last token."""
    return subjects.unescape(subject.rpartition(".")[2])


def blind_pod(subject: str) -> str:
    """The pod of an endpoint row that can't be read, or empty if not even that can."""
    address = pod_of(subject)
    return address if soundness.is_address(address) else ""


def _sets(
    chunks: Mapping[str, Mapping[str, bytes]], wanted: set[str], problems: list[Problem]
) -> dict[str, tuple[rows.Route, ...]]:
    found = {set_id: routes(chunks[set_id], problems) for set_id in sorted(wanted & chunks.keys())}
    return {set_id: of_set for set_id, of_set in found.items() if of_set is not None}


def routes(chunks: Mapping[str, bytes], problems: list[Problem]) -> tuple[rows.Route, ...] | None:
    """Those of one set, or None if a part of them isn't known."""
    decoded, unread = _decode(chunks, rows.Routes, problems)
    if unread:
        return None
    found = [route for row in decoded.values() for route in row.routes]
    return tuple(sorted(found, key=lambda route: route.cidr))


def groups(
    shared: Mapping[str, bytes], uids: Iterable[str], problems: list[Problem]
) -> dict[str, rows.Group]:
    """By policy uid; only those that routes of sets in use name."""
    subject_of = {uid: subjects.group(uid) for uid in sorted(filter(None, uids))}
    held = {subject: shared[subject] for subject in subject_of.values() if subject in shared}
    decoded, _ = _decode(held, rows.Group, problems)
    return {uid: decoded[subject] for uid, subject in subject_of.items() if subject in decoded}


def _id(subject: str) -> str:
    name = subjects.parse(subject)
    assert name is not None, subject
    return name.ids[-1]


def set_of(subject: str) -> str:
    name = subjects.parse(subject)
    assert name is not None, subject
    return name.ids[0]
