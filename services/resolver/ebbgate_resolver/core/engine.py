"""The resolver as a machine without a world: messages in, batches and verdicts out (h11's shape).

Leg: all of Fact ─▶ rows ─▶ batches, and Applied ─▶ Verdict. The shell folds what arrived, steps once,
publishes, and says `stored`; only then does the engine take its own rows for PLAN's content. If publishing
fails the shell reads PLAN again and hands it to `replace_plan`. Never removes anything before the watcher's
kinds are synced: an object that hasn't been listed yet would look like one that is gone.
"""

from collections.abc import Iterable

import msgspec

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.envelope import SEEN, TRACEPARENT, Outgoing, Stored
from ebbgate_resolver.core import (
    answers,
    diff,
    held,
    inventory,
    ledger,
    presence,
    release,
    resolve,
    revision,
    slots,
    verdicts,
)

RESERVED_S = 3600.0
"""A freed slot isn't used again while its tombstone can still be read (streams.TOMBSTONE_TTL)."""


class Freed(msgspec.Struct, frozen=True):
    """`egress_ip`: what the slot named, or empty if that isn't known any more."""

    since_s: float
    egress_ip: str = ""


class Step(msgspec.Struct, frozen=True):
    """`batches`: to be stored in this order, each whole; the last message of each is the writer's row."""

    batches: tuple[tuple[Outgoing, ...], ...] = ()
    verdicts: tuple[Outgoing, ...] = ()
    notes: tuple[answers.Note, ...] = ()
    now_s: float = 0.0


class Resolver:
    """`cluster_cidrs`: destinations that are never steered, besides those found. `epoch`: of our claim."""

    def __init__(self, *, cluster_cidrs: tuple[str, ...] = ()) -> None:
        self.epoch = 0
        self._cluster_cidrs = cluster_cidrs
        self._known = inventory.Inventory()
        self._plan = held.Held()
        self._verdicts: dict[str, bytes] = {}
        self._freed: dict[slots.Place, Freed] = {}
        self._presence = presence.Presence()
        self._ledger = ledger.Ledger()
        self._heard: set[str] = set()
        self._cause: dict[str, str] = {}
        self._unreadable: list[answers.Note] = []
        self._noted: list[answers.Note] = []
        self._changed = True
        self._waiting = False

    @property
    def live_rows(self) -> dict[str, bytes]:
        """PLAN's live rows as last read or stored, for listings."""
        return dict(self._plan.rows)

    @property
    def commits(self) -> dict[str, rows.Commit]:
        """Scope → Commit, as last read or stored."""
        return dict(self._plan.commits)

    def replace_facts(self, messages: Iterable[Stored]) -> None:
        self._known.forget_facts()
        self.fold(messages)

    def replace_reports(self, messages: Iterable[Stored]) -> None:
        self._known.forget_reports()
        self._verdicts = {}
        self.fold(messages)

    def fold(self, messages: Iterable[Stored]) -> None:
        """FACT and STATUS messages and beats, mixed. What can't be read is noted; what was known stays."""
        for message in messages:
            name = subjects.parse(message.subject)
            if name is not None and name.kind == "beat":
                self._heard.update(name.ids[1:2])
            elif name is not None and name.kind == "verdict":
                self._put_verdict(message.subject, message.payload)
            else:
                self._fold_one(message, name)

    def _fold_one(self, message: Stored, name: subjects.Name | None) -> None:
        if name is not None and name.kind == "stats":
            return
        self._changed = True
        try:
            decoded = codec.decode(message.subject, message.payload)
        except codec.Undecodable as error:
            self._known.unreadable.add(message.subject)
            self._unreadable.append(answers.note("message.unreadable", reason=error))
            return
        if name is not None and name.kind == "status":
            self._heard.add(name.ids[0])
        self._known.fold(message.subject, decoded)
        cause = {key: message.headers[key] for key in (SEEN, TRACEPARENT) if key in message.headers}
        self._cause = cause or self._cause

    def replace_plan(self, messages: Iterable[Stored], now_s: float) -> None:
        """PLAN as stored, tombstones included: these reserve freed slots, as if they were freed now."""
        self._plan, before = held.Held(), self._freed
        self._freed = {}
        self._changed = True
        for message in messages:
            self._put(message.subject, message.payload, now_s)
        for place, freed in before.items():
            if place not in self._plan.egress:
                self._freed[place] = freed

    def _put(self, subject: str, payload: bytes, now_s: float) -> None:
        name = subjects.parse(subject)
        if name is not None and name.kind == "plan.egress" and not payload and name.ids[0].isdecimal():
            place = (name.node, int(name.ids[0]))
            known = self._plan.egress.get(place)
            self._freed[place] = Freed(now_s, known.egress_ip if known else "")
        try:
            self._plan.put(subject, payload)
        except codec.Undecodable as error:
            self._unreadable.append(answers.note("row.unreadable", reason=error))

    def step(self, now_s: float) -> Step:
        """`now_s`: seconds on any clock that doesn't run backwards much. Nothing changed: an empty Step."""
        for node in self._heard:
            self._presence.heard(node, now_s)
        self._heard.clear()
        # Time alone changes something only where a slot is waited for.
        if not (self._changed or self._waiting):
            return Step(now_s=now_s)
        resolution = resolve.resolve(self._known, self._previous(now_s), self._cluster_cidrs)
        changes, kept = self._changes(resolution, now_s)
        stamp = revision.Stamp(self.epoch, self._cause)
        scopes = revision.scopes_wanted(self._known.nodes, kept)
        if not self._known.complete:
            scopes |= self._plan.commits.keys()
        batches = revision.batches(changes, scopes, self._plan, stamp)
        self._waiting = bool(resolution.slotless or set(kept) & set(resolution.retained))
        self._changed = False
        return Step(
            batches=batches,
            verdicts=self._changed_verdicts(resolution, batches),
            notes=self._new_notes(resolution),
            now_s=now_s,
        )

    def _previous(self, now_s: float) -> resolve.Previous:
        self._freed = {
            place: freed
            for place, freed in self._freed.items()
            if now_s - freed.since_s < RESERVED_S and place not in self._plan.egress
        }
        return resolve.Previous(self._plan, {place: freed.egress_ip for place, freed in self._freed.items()})

    def _changes(
        self, resolution: resolve.Resolution, now_s: float
    ) -> tuple[tuple[diff.Change, ...], dict[str, bytes]]:
        """The changes, and the rows that PLAN holds after them."""
        refused = release.refused_peers(self._plan, self._known)
        wanted = release.without_peers(resolution.wanted, refused)
        careful = wanted | resolution.retained
        changes = diff.changes(careful, self._plan.rows)
        if not self._known.complete:
            additions = release.before_synced(changes, self._plan.rows, self._known)
            return additions, self._plan.rows | {change.subject: change.payload for change in additions}
        if not resolution.retained or any(change.scope == subjects.ALL_SCOPE for change in changes):
            return changes, careful
        sources = self._plan.nodes_with_endpoints()
        counting = self._presence.counting(sources, now_s)
        named = release.still_named(resolution.retained, self._plan)
        if named == resolution.retained or not release.is_allowed(self._plan, self._known, counting):
            return changes, careful
        left = release.left_behind(self._known, sources, counting)
        kept = release.without_peers(wanted, left) | named
        return diff.changes(kept, self._plan.rows), kept

    def _changed_verdicts(
        self, resolution: resolve.Resolution, batches: tuple[tuple[Outgoing, ...], ...]
    ) -> tuple[Outgoing, ...]:
        after = verdicts.commits_after(self._plan, batches)
        programmed = self._ledger.programmed(resolution, ledger.up_to_date(self._known, after))
        buckets = verdicts.count_buckets(resolution.matched)
        progress = verdicts.Progress(self._known, resolution, programmed, buckets)
        wanted = {
            subjects.verdict(name): codec.encode(verdicts.verdict(name, progress))
            for name in sorted(self._known.policies)
        }
        changes = diff.changes(wanted, self._verdicts)
        if not self._known.complete:
            changes = tuple(change for change in changes if change.payload)
        return tuple(revision.outgoing(change.subject, change.payload, self._cause) for change in changes)

    def _new_notes(self, resolution: resolve.Resolution) -> tuple[answers.Note, ...]:
        """One for each change of state: what was already said isn't said again."""
        now = resolve.notes(resolution)
        fresh = [note for note in now if note not in self._noted]
        self._noted = now
        unreadable, self._unreadable = self._unreadable, []
        return (*unreadable, *fresh)

    def stored(self, step: Step) -> None:
        """`step`'s batches are PLAN now, and its verdicts published. To be called after every step."""
        for batch in step.batches:
            for message in batch:
                self._put(message.subject, message.payload, step.now_s)
        for message in step.verdicts:
            self._put_verdict(message.subject, message.payload)
        self._changed = self._changed or bool(step.batches)
        self._cause = {}

    def _put_verdict(self, subject: str, payload: bytes) -> None:
        self._verdicts.pop(subject, None)
        if payload:
            self._verdicts[subject] = payload
