"""The resolver as a machine without a world: messages in, batches and verdicts out (h11's shape).

Leg: all of Fact ─▶ rows ─▶ batches, and Applied ─▶ Verdict. The shell folds what arrived, steps once,
publishes, and says `stored`; only then does the engine take its own rows for PLAN's content. If publishing
fails the shell reads PLAN again and hands it to `replace_plan`. Never removes anything before the watcher's
kinds are synced: an object that hasn't been listed yet would look like one that is gone. A step costs work
for what changed since the last one, whoever changed it: facts, reports, PLAN, or time.
"""

import contextlib
from collections.abc import Iterable, Iterator

import msgspec

from ebbgate_bus.contracts import codec, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_resolver.core import answers, causes, census, inventory
from ebbgate_resolver.core.incremental import incremental, ledger
from ebbgate_resolver.core.people import verdicts
from ebbgate_resolver.core.plan import diff, freed, held, presence, release, revision, wanted

RESERVED_S = freed.RESERVED_S


class Step(msgspec.Struct, frozen=True):
    """`batches`: to be stored in this order, each whole; the last message of each is the writer's row."""

    batches: tuple[tuple[Outgoing, ...], ...] = ()
    verdicts: tuple[Outgoing, ...] = ()
    notes: tuple[answers.Note, ...] = ()
    now_s: float = 0.0


class _Changes(msgspec.Struct, frozen=True):
    """`kept`: subjects of egress rows that nobody wants and that stay for now."""

    rows: tuple[diff.Change, ...]
    kept: frozenset[str]


class Resolver:
    """`cluster_cidrs`: destinations that are never steered, besides those found. `epoch`: of our claim."""

    def __init__(self, *, cluster_cidrs: tuple[str, ...] = ()) -> None:
        self.epoch = 0
        self._known = inventory.Inventory()
        self._plan = held.Held()
        self._verdicts: dict[str, bytes] = {}
        self._freed = freed.Freed()
        self._presence = presence.Presence()
        self._sources = release.Sources(self._known, self._presence)
        self._incremental = incremental.Incremental(self._known, cluster_cidrs)
        self._difference = wanted.Difference()
        self._heard: set[str] = set()
        self._causes = causes.Causes()
        self._unreadable: list[answers.Note] = []
        self._unsettled: set[str] = set()
        self._unsaid: set[str] = set()
        self._shared_revision = 0
        self._was_complete = False
        self._replaced = True
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

    @property
    def census(self) -> census.Census:
        return census.take(self._known, self._plan)

    @property
    def verdicts(self) -> Iterator[reports.Verdict]:
        """What was last said of each policy, as far as this version can read it."""
        for subject, payload in self._verdicts.items():
            with contextlib.suppress(codec.Undecodable):
                yield codec.decode_as(reports.Verdict, subject, payload)

    def replace_facts(self, messages: Iterable[Stored]) -> None:
        """All there is in FACT. What is as it was costs next to nothing. None of it is what happened just
        now, so that no event of long ago is gone on with.
        """
        messages = list(messages)
        self._known.forget_facts({message.subject for message in messages})
        self._fold_anew(messages)

    def replace_reports(self, messages: Iterable[Stored]) -> None:
        messages = list(messages)
        self._known.forget_reports({message.subject for message in messages})
        self._unsaid.update(map(_policy_of, self._verdicts), self._known.policies)
        self._verdicts = {}
        self._fold_anew(messages)

    def _fold_anew(self, messages: Iterable[Stored]) -> None:
        known, self._causes = self._causes, causes.Causes()
        self.fold(messages)
        self._causes = known

    def fold(self, messages: Iterable[Stored]) -> None:
        """FACT and STATUS messages and beats, mixed. What can't be read is noted; what was known stays."""
        for message in messages:
            name = subjects.parse(message.subject)
            if name is not None and name.kind == "beat":
                self._heard.update(name.ids[1:2])
            elif name is not None and name.kind == "verdict":
                self._unsaid.add(name.ids[0])
                self._put_verdict(message.subject, message.payload)
            else:
                self._fold_one(message, name)

    def _fold_one(self, message: Stored, name: subjects.Name | None) -> None:
        if name is not None and name.kind in ("stats", "fact.writer"):
            return
        self._changed = True
        try:
            decoded = codec.decode(message.subject, message.payload)
        except codec.Undecodable as error:
            self._known.cannot_read(message.subject)
            self._unreadable.append(answers.note("message.unreadable", reason=error))
            return
        if name is not None and name.kind == "status":
            self._heard.add(name.ids[0])
        self._known.fold(message.subject, decoded)
        self._causes.take(message, is_fact=name is not None and name.kind.startswith("fact."))

    def replace_plan(self, messages: Iterable[Stored], now_s: float) -> None:
        """PLAN as stored, tombstones included: these reserve freed slots, as if they were freed now.

        Where there is none, revisions go on from the time in milliseconds: on a bus that lost its store
        programmers say again what they applied of the plan before, and that must not look like this one.
        """
        self._plan, before = held.Held(), self._freed
        self._freed = freed.Freed()
        self._changed = self._replaced = True
        for message in messages:
            self._put(message.subject, message.payload, now_s)
        if not self._plan.commits:
            self._plan.revision = max(self._plan.revision, int(now_s * 1000))
        self._freed.remember(before)
        for place in self._plan.egress:
            self._freed.take_back(place)

    def _put(self, subject: str, payload: bytes, now_s: float) -> None:
        place = held.place_of(subject)
        if place[1] >= 0 and not payload:
            known = self._plan.egress.get(place)
            self._freed.put(place, freed.Freeing(now_s, known.egress_ip if known else ""))
        try:
            self._plan.put(subject, payload)
        except codec.Undecodable as error:
            self._unreadable.append(answers.note("row.unreadable", reason=error))
        if place in self._plan.egress:
            self._freed.take_back(place)

    @property
    def cause(self) -> causes.Cause:
        """What was folded since the last step: which event the next one goes on with, and the others."""
        return self._causes.cause

    def step(self, now_s: float, traceparent: str = "") -> Step:
        """`now_s`: seconds on any clock that doesn't run backwards much. Nothing changed: an empty Step.
        `traceparent`: for what is published; without one that of the cause.
        """
        for node in self._heard:
            self._presence.heard(node, now_s)
        self._heard.clear()
        # Time alone changes something only where a slot is waited for.
        if not (self._changed or self._waiting):
            return Step(now_s=now_s)
        self._freed.expire(now_s)
        touched, of_plan = self._known.take_touched(), self._plan.take_touched()
        everything = self._replaced or self._known.complete != self._was_complete
        update = self._incremental.update(touched, of_plan, self._following())
        self._compare(touched, of_plan, everything=everything)
        changes = self._changes(now_s)
        headers = self._causes.headers(traceparent)
        batches = self._batches(changes, headers)
        self._waiting = bool(self._incremental.is_slotless or changes.kept)
        self._changed = self._replaced = False
        self._was_complete = self._known.complete
        unreadable, self._unreadable = self._unreadable, []
        return Step(
            batches=batches,
            verdicts=tuple(
                revision.outgoing(subject, payload, headers)
                for subject, payload in self._changed_verdicts(update, batches, everything=everything)
            ),
            notes=(*unreadable, *update.notes),
            now_s=now_s,
        )

    def _following(self) -> incremental.Following:
        return incremental.Following(self._plan, self._freed, self._replaced)

    def _compare(self, touched: inventory.Touched, of_plan: held.Touched, *, everything: bool) -> None:
        """Bring up to date what is kept of the difference between PLAN and what is wanted."""
        rows_ = self._incremental.wanted
        subjects_ = rows_.take_touched() | of_plan.rows
        nodes = touched.nodes | {_node_of(scope) for scope in of_plan.scopes}
        if self._replaced:
            subjects_ = self._difference.everything(rows_, self._plan)
            self._sources.forget()
        if everything:
            nodes = {*self._known.nodes, *map(_node_of, self._plan.totals | self._plan.commits)}
        self._unsettled |= self._difference.refresh(subjects_, rows_, self._plan)
        self._unsettled |= {subjects.ALL_SCOPE, *map(subjects.node_scope, filter(None, nodes))}
        self._sources.touch(nodes | touched.reports)
        self._sources.touch_peers(nodes | set(filter(None, map(_peer_of, subjects_))), self._plan)

    def _changes(self, now_s: float) -> _Changes:
        """What is to be written, and what PLAN keeps though nobody wants it."""
        retained, plan = self._difference.retained, self._plan
        refused = set(map(subjects.peer, self._sources.refused_peers(plan)))
        changed = {s: payload for s, payload in self._difference.changes.items() if s not in refused}
        careful = _Changes(_sorted(changed), frozenset(retained))
        if not self._known.complete:
            return _Changes(release.before_synced(careful.rows, plan, self._known), careful.kept)
        if not retained or any(change.scope == subjects.ALL_SCOPE for change in careful.rows):
            return careful
        named = release.still_named(retained, plan)
        if named == retained or not self._sources.is_allowed(plan, now_s):
            return careful
        changed |= dict.fromkeys(retained.keys() - named.keys(), b"")
        for node in self._sources.left_behind(plan, now_s):
            peer = subjects.peer(node)
            changed.pop(peer, None)
            if peer in plan.rows:
                changed[peer] = b""
        return _Changes(_sorted(changed), frozenset(named))

    def _batches(self, changes: _Changes, headers: dict[str, str]) -> tuple[tuple[Outgoing, ...], ...]:
        keeping = set(map(subjects.scope_of, changes.kept))
        scopes = self._unsettled | set(map(subjects.scope_of, self._difference.retained))
        due = revision.due(scopes, lambda scope: self._has_commit(scope, keeping), self._plan)
        self._unsettled = {*due.bare, *due.gone}
        return revision.batches(changes.rows, due, self._plan, revision.Stamp(self.epoch, headers))

    def _has_commit(self, scope: str, keeping: set[str]) -> bool:
        """`all` has one, every node has one even if it is empty (a programmer may hold rows that are no
        longer wanted), and vanished nodes that still have rows. Before all is listed none is taken away, and
        none comes.
        """
        if not self._known.complete:
            return scope in self._plan.commits
        if scope == subjects.ALL_SCOPE or _node_of(scope) in self._known.nodes:
            return True
        return scope in keeping

    def _changed_verdicts(
        self, update: incremental.Update, batches: tuple[tuple[Outgoing, ...], ...], *, everything: bool
    ) -> list[tuple[str, bytes]]:
        self._unsaid |= update.policies | self._newly_programmed(update.nodes, batches, everything)
        if everything:
            self._unsaid.update(map(_policy_of, self._verdicts), self._known.policies)
        changed = {}
        for name in self._unsaid:
            subject = subjects.verdict(name)
            payload = self._verdict(name)
            if payload != self._verdicts.get(subject, b""):
                changed[subject] = payload
        self._unsaid = set(map(_policy_of, changed))
        return [each for each in sorted(changed.items()) if each[1] or self._known.complete]

    def _newly_programmed(
        self, nodes: set[str], batches: tuple[tuple[Outgoing, ...], ...], everything: bool
    ) -> set[str]:
        """Policies of which more or fewer nodes have their rows, once `batches` are stored."""
        news = ledger.News(self._plan.commits, ledger.commits_of(batches))
        shared = news.commit(subjects.ALL_SCOPE)
        now = shared.revision if shared else 0
        if everything or now < self._shared_revision or not self._shared_revision:
            nodes = nodes | self._known.nodes.keys()
        self._shared_revision = now
        nodes = nodes | set(map(_node_of, news.written))
        return self._incremental.ledger.settle(
            nodes, lambda node: ledger.is_up_to_date(node, self._known, news)
        )

    def _verdict(self, name: str) -> bytes:
        """Empty for a policy that doesn't exist."""
        if name not in self._known.policies:
            return b""
        return codec.encode(verdicts.verdict(name, self._incremental.progress(name)))

    def stored(self, step: Step) -> None:
        """`step`'s batches are PLAN now, and its verdicts published. To be called after every step."""
        for batch in step.batches:
            for message in batch:
                self._put(message.subject, message.payload, step.now_s)
        for message in step.verdicts:
            self._put_verdict(message.subject, message.payload)
            self._unsaid.discard(_policy_of(message.subject))
        self._changed = self._changed or bool(step.batches)
        self._causes = causes.Causes()

    def _put_verdict(self, subject: str, payload: bytes) -> None:
        self._verdicts.pop(subject, None)
        if payload:
            self._verdicts[subject] = payload


def _sorted(changed: dict[str, bytes]) -> tuple[diff.Change, ...]:
    return tuple(diff.Change(subject, payload) for subject, payload in sorted(changed.items()))


def _node_of(scope: str) -> str:
    """Empty for `all`."""
    return "" if scope == subjects.ALL_SCOPE else subjects.unescape(scope.rpartition(".")[2])


def _policy_of(subject: str) -> str:
    """Of a verdict's subject."""
    return subjects.unescape(subject.rpartition(".")[2])


_PEER = f"{subjects.ALL_SCOPE}.peer."


def _peer_of(subject: str) -> str:
    """The node whose peer row it is, or empty."""
    return subjects.unescape(subject.removeprefix(_PEER)) if subject.startswith(_PEER) else ""
