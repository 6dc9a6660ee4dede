"""Changes → batches, each stored whole or not at all, and each safe if it is the last one for a while.

Leg: changes ─▶ the bus. Within a batch: rows, node Commits, the `all` Commit, last the writer, on which the
shell fences it. What doesn't fit in one batch goes in this order, so that at every border an endpoint's set
is there and a path's slot is on its gateway (gateways first on add, sources first on remove):

| phase | what | why then |
|---|---|---|
| 1 | egress rows | paths may name their slots |
| 2 | rows of `all`, added or changed; a set's chunks together | endpoints may name them |
| 3 | endpoints; egress rows removed; last, what was paused | these need the old rows of `all` up to here |
| 4 | rows of `all` removed | nobody names them any more |

A policy that gets other paths while it chooses other pods or destinations has none from phase 2 on until its
pods have their new routes: what was chosen before must not meet the new paths, nor what is chosen now the old
ones. It drops meanwhile.

Where PLAN has no Commit of `all` all Commits come last, when every row is there: on a bus that lost
everything nodes still hold what they were told, and a Commit in between would take away what comes after it.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from ebbgate_bus.contracts import codec, digests, rows, streams, subjects
from ebbgate_bus.contracts.envelope import TTL, Outgoing
from ebbgate_resolver.core.plan import diff, held

_PLAN = f"{subjects.ROOT}.plan"
_NO_SCOPES: frozenset[str] = frozenset()
_SETS, _GROUPS = f"{subjects.ALL_SCOPE}.set.", f"{subjects.ALL_SCOPE}.group."
_WRITER_MESSAGES = 1
_UNIT_MAX = 900
"""A set of more chunks (460,800 routes) is torn apart: a batch can't hold it."""
_ADDED_ORDER = ("policy", "peer", "cluster", "group", "set")
"""In phase 2; phase 4 is the reverse. A route whose group is missing drops, one whose cluster row is missing
would steer.
"""


class Unit(msgspec.Struct, frozen=True, gc=False):
    """Changes that may not be torn apart, and the scopes that need a Commit after them."""

    order: tuple[int, int, str]
    changes: tuple[diff.Change, ...]
    scopes: frozenset[str]


class Stamp(msgspec.Struct, frozen=True):
    """What every message of a revision carries. `headers`: of the event that caused it."""

    epoch: int
    headers: dict[str, str] = {}


class Due(msgspec.Struct, frozen=True):
    """`bare`: scopes that need a Commit even if no row of theirs changes. `gone`: whose Commit goes."""

    bare: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def batches(
    changes: Iterable[diff.Change], due: Due, plan: held.Held, stamp: Stamp
) -> tuple[tuple[Outgoing, ...], ...]:
    press = _Press(plan, stamp)
    units, scopes = list(_units(changes)), set(due.bare)
    last = 3
    if subjects.ALL_SCOPE not in plan.commits:
        scopes.update(*(unit.scopes for unit in units))
        units, last = [msgspec.structs.replace(unit, scopes=_NO_SCOPES) for unit in units], 5
    bare = (Unit((last, 1, scope), (), frozenset((scope,))) for scope in scopes)
    todo = sorted([*units, *bare], key=lambda unit: unit.order)
    packed = list(_pack(todo))
    if len(packed) > 1:
        packed = list(_pack(sorted(_pausing(todo, plan), key=lambda unit: unit.order)))
    made = [press.batch(units, ()) for units in packed]
    return (*made, *(press.batch((), part) for part in _parts(due.gone)))


def due(scopes: Iterable[str], wanted: Callable[[str], bool], plan: held.Held) -> Due:
    """Of `scopes` those that need a Commit, since theirs disagrees with their rows, or must lose it.

    `wanted`: must the scope have a Commit?
    """
    bare, gone = [], []
    for scope in sorted(scopes):
        if not wanted(scope):
            gone += [scope] if scope in plan.commits else []
        elif not plan.totals.get(scope, held.Total()).agrees(plan.commits.get(scope)):
            bare.append(scope)
    return Due(tuple(bare), tuple(gone))


def _units(changes: Iterable[diff.Change]) -> Iterator[Unit]:
    """Chunks of one set change together, even where some of them vanish: half a set is another policy."""
    sets: dict[str, list[diff.Change]] = {}
    scopes: dict[str, frozenset[str]] = {"": frozenset()}
    for change in changes:
        if change.subject.startswith(_SETS):
            sets.setdefault(change.subject.rpartition(".")[0], []).append(change)
        else:
            scope = change.scope
            known = scopes.get(scope) or scopes.setdefault(scope, frozenset((scope,) if scope else ()))
            yield Unit(_order(change.subject, scope, bool(change.payload)), (change,), known)
    for key, together in sets.items():
        order = _order(key, subjects.ALL_SCOPE, any(change.payload for change in together))
        for i in range(0, len(together), _UNIT_MAX):
            yield Unit(order, tuple(together[i : i + _UNIT_MAX]), frozenset((subjects.ALL_SCOPE,)))


def _pausing(units: Iterable[Unit], plan: held.Held) -> Iterator[Unit]:
    """`units`, where a policy's paths that may meet other traffic than they are for come after a pause. The
    paused row keeps the old `traffic`, so that whoever has to finish the revision pauses it, too.
    """
    for unit in units:
        (change, *_) = unit.changes or (None,)
        if change is None or not change.payload or not change.subject.startswith(_GROUPS):
            yield unit
            continue
        name = subjects.parse(change.subject)
        assert name is not None
        old, new = plan.groups.get(name.ids[0]), _group(change)
        if old is None or old.traffic == new.traffic:
            yield unit
            continue
        paused = _paused(new, old.traffic)
        if (payload := codec.encode(paused)) != plan.rows.get(change.subject):
            yield msgspec.structs.replace(unit, changes=(diff.Change(change.subject, payload),))
        yield msgspec.structs.replace(unit, order=(3, 2, change.subject))


def _group(change: diff.Change) -> rows.Group:
    row = codec.decode(change.subject, change.payload)
    assert isinstance(row, rows.Group)
    return row


def _paused(row: rows.Group, traffic: str) -> rows.Group:
    none = rows.Paths(paths=(), buckets=(rows.NO_PATH,) * rows.BUCKETS)
    families = {family: none for family in ("ipv4", "ipv6") if getattr(row, family)}
    return msgspec.structs.replace(row, traffic=traffic, **families)


def _order(key: str, scope: str, added: bool) -> tuple[int, int, str]:
    """The phase and the place in it. `scope`: empty for policies in force."""
    kind = key[len(scope or _PLAN) + 1 :].partition(".")[0]
    if scope and scope != subjects.ALL_SCOPE:
        return (1 if kind == "egress" and added else 3, 0, key)
    rank = _ADDED_ORDER.index(kind) if kind in _ADDED_ORDER else len(_ADDED_ORDER)
    return (2, rank, key) if added else (4, -rank, key)


def _pack(units: Iterable[Unit]) -> Iterator[tuple[Unit, ...]]:
    """As many units as fit, in order."""
    packed: list[Unit] = []
    size, scopes = _WRITER_MESSAGES, set[str]()
    for unit in units:
        new_scopes = sum(scope not in scopes for scope in unit.scopes)
        if packed and size + len(unit.changes) + len(scopes) + new_scopes > streams.MAX_BATCH:
            yield tuple(packed)
            packed, size, scopes = [], _WRITER_MESSAGES, set()
        packed.append(unit)
        size += len(unit.changes)
        scopes |= unit.scopes
    if packed:
        yield tuple(packed)


def _parts(gone: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    step = streams.MAX_BATCH - _WRITER_MESSAGES
    return (gone[i : i + step] for i in range(0, len(gone), step))


class _Press:
    """Prints one batch after the other; knows what the scopes will hold after each."""

    def __init__(self, plan: held.Held, stamp: Stamp) -> None:
        self._plan = plan
        self._stamp = stamp
        self._totals: dict[str, held.Total] = {}
        self._printed: dict[str, bytes] = {}
        self._revision = plan.revision
        all_commit = plan.commits.get(subjects.ALL_SCOPE)
        self._all_revision = all_commit.revision if all_commit else 0

    def batch(self, units: Iterable[Unit], gone: Iterable[str]) -> tuple[Outgoing, ...]:
        self._revision += 1
        # The last one counts where a row is paused and written in one batch.
        changes = {change.subject: change for unit in units for change in unit.changes}.values()
        scopes = {scope for unit in units for scope in unit.scopes}
        for change in changes:
            self._count(change)
        if subjects.ALL_SCOPE in scopes:
            self._all_revision = self._revision
        # `all` sorts before `node.…` and its Commit has to come after theirs.
        ordered = sorted(scopes - {subjects.ALL_SCOPE}) + sorted(scopes & {subjects.ALL_SCOPE})
        messages = [(change.subject, change.payload) for change in changes]
        messages += [(subjects.commit(scope), codec.encode(self._commit(scope))) for scope in ordered]
        messages += [(subjects.commit(scope), b"") for scope in gone]
        writer = rows.Writer(epoch=self._stamp.epoch, revision=self._revision)
        messages.append((subjects.WRITER, codec.encode(writer)))
        return tuple(outgoing(subject, payload, self._stamp.headers) for subject, payload in messages)

    def _count(self, change: diff.Change) -> None:
        scope = change.scope
        if scope:
            old = self._printed.get(change.subject, self._plan.rows.get(change.subject, b""))
            self._printed[change.subject] = change.payload
            self._totals[scope] = self._total(scope).replaced(change.subject, old, change.payload)

    def _total(self, scope: str) -> held.Total:
        return self._totals.get(scope) or self._plan.totals.get(scope) or held.Total()

    def _commit(self, scope: str) -> rows.Commit:
        total = self._total(scope)
        return rows.Commit(
            epoch=self._stamp.epoch,
            revision=self._revision,
            count=total.count,
            digest=digests.text(total.digest),
            all_revision=0 if scope == subjects.ALL_SCOPE else self._all_revision,
        )


def outgoing(subject: str, payload: bytes, headers: dict[str, str]) -> Outgoing:
    """An empty payload is a tombstone, and says how long it can be read."""
    return Outgoing(subject, payload, headers if payload else headers | {TTL: streams.TOMBSTONE_TTL})
