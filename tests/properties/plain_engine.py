"""The plain engine: all of `resolve` at every step, and every difference found by comparing everything.

It is what the resolver's engine must equal, message by message, after any history. It shares with it what
judges one object (parsers, `resolve`, `verdict`), and none of what remembers: it has no index, keeps no
counts, and looks at all nodes, pods and rows whenever anything changed.
"""

from collections.abc import Iterable, Mapping

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_resolver.core import answers, engine, inventory, resolve
from ebbgate_resolver.core.people import verdicts
from ebbgate_resolver.core.plan import diff, freed, held, presence, release, revision
from ebbgate_resolver.core.rules import slots


class PlainResolver:
    """As `engine.Resolver`; its notes are all there is to say, in any order."""

    def __init__(self, *, cluster_cidrs: tuple[str, ...] = ()) -> None:
        self.epoch = 0
        self._setting = cluster_cidrs
        self._known = inventory.Inventory()
        self._plan = held.Held()
        self._verdicts: dict[str, bytes] = {}
        self._freed: dict[slots.Place, freed.Freeing] = {}
        self._presence = presence.Presence()
        self._heard: set[str] = set()
        self._applied: dict[tuple[str, str], tuple[int, int]] = {}
        self._notes: tuple[answers.Note, ...] = ()
        self._changed = True
        self._waiting = False
        self.resolution: resolve.Resolution | None = None

    def replace_facts(self, messages: Iterable[Stored]) -> None:
        messages = list(messages)
        self._known.forget_facts({message.subject for message in messages})
        self.fold(messages)

    def replace_reports(self, messages: Iterable[Stored]) -> None:
        messages = list(messages)
        self._known.forget_reports({message.subject for message in messages})
        self._verdicts = {}
        self.fold(messages)

    def fold(self, messages: Iterable[Stored]) -> None:
        for message in messages:
            name = subjects.parse(message.subject)
            if name is not None and name.kind == "beat":
                self._heard.update(name.ids[1:2])
            elif name is not None and name.kind == "verdict":
                self._put_verdict(message.subject, message.payload)
            elif name is None or name.kind != "stats":
                self._fold_one(message, name)

    def _fold_one(self, message: Stored, name: subjects.Name | None) -> None:
        self._changed = True
        try:
            decoded = codec.decode(message.subject, message.payload)
        except codec.Undecodable:
            self._known.cannot_read(message.subject)
            return
        if name is not None and name.kind == "status":
            self._heard.add(name.ids[0])
        self._known.fold(message.subject, decoded)

    def replace_plan(self, messages: Iterable[Stored], now_s: float) -> None:
        self._plan, before = held.Held(), self._freed
        self._freed = {}
        self._changed = True
        for message in messages:
            self._put(message.subject, message.payload, now_s)
        if not self._plan.commits:
            self._plan.revision = max(self._plan.revision, int(now_s * 1000))
        self._freed |= before

    def _put(self, subject: str, payload: bytes, now_s: float) -> None:
        name = subjects.parse(subject)
        if name is not None and name.kind == "plan.egress" and not payload and name.ids[0].isdecimal():
            place = (name.node, int(name.ids[0]))
            known = self._plan.egress.get(place)
            self._freed[place] = freed.Freeing(now_s, known.egress_ip if known else "")
        try:
            self._plan.put(subject, payload)
        except codec.Undecodable:
            return

    def step(self, now_s: float) -> engine.Step:
        for node in self._heard:
            self._presence.heard(node, now_s)
        self._heard.clear()
        if not (self._changed or self._waiting):
            return engine.Step(notes=self._notes, now_s=now_s)
        self.resolution = resolve.resolve(self._known, self._previous(now_s), self._setting)
        changes, kept = self._changes(self.resolution, now_s)
        scopes = self._scopes_wanted(kept)
        due = revision.due(scopes | self._plan.commits.keys(), scopes.__contains__, self._plan)
        batches = revision.batches(changes, due, self._plan, revision.Stamp(self.epoch))
        self._notes = tuple(resolve.notes(self.resolution))
        self._waiting = bool(self.resolution.slotless or set(kept) & set(self.resolution.retained))
        self._changed = False
        return engine.Step(
            batches=batches,
            verdicts=self._changed_verdicts(self.resolution, batches),
            notes=self._notes,
            now_s=now_s,
        )

    def _previous(self, now_s: float) -> resolve.Previous:
        self._freed = {
            place: freeing
            for place, freeing in self._freed.items()
            if now_s - freeing.since_s < freed.RESERVED_S and place not in self._plan.egress
        }
        return resolve.Previous(self._plan, {place: each.egress_ip for place, each in self._freed.items()})

    def _changes(
        self, resolution: resolve.Resolution, now_s: float
    ) -> tuple[tuple[diff.Change, ...], dict[str, bytes]]:
        """The changes, and the rows that PLAN holds after them."""
        plan, known = self._plan, self._known
        wanted = _without_peers(resolution.wanted, self._refused())
        careful = wanted | resolution.retained
        changes = diff.changes(careful, plan.rows)
        if not known.complete:
            additions = release.before_synced(changes, plan, known)
            return additions, plan.rows | {change.subject: change.payload for change in additions}
        if not resolution.retained or any(change.scope == subjects.ALL_SCOPE for change in changes):
            return changes, careful
        named = {subjects.egress(*place) for place in held.places(plan.groups.values())}
        kept = {subject: payload for subject, payload in resolution.retained.items() if subject in named}
        counting = self._presence.counting(self._sources(), now_s)
        if kept == resolution.retained or not all(map(self._has_applied_all, counting)):
            return changes, careful
        left = {node for node in self._sources() - counting if known.report(node) is not None}
        kept = _without_peers(wanted, left) | kept
        return diff.changes(kept, plan.rows), kept

    def _sources(self) -> set[str]:
        names = map(subjects.parse, self._plan.rows)
        return {name.node for name in names if name and name.kind == "plan.endpoint"}

    def _has_applied_all(self, node: str) -> bool:
        commit, report = self._plan.commits.get(subjects.ALL_SCOPE), self._known.report(node)
        return bool(commit and report and report.all_revision >= commit.revision)

    def _refused(self) -> set[str]:
        if subjects.ALL_SCOPE not in self._plan.commits:
            return set()
        return {
            node
            for node in self._known.nodes
            if subjects.peer(node) not in self._plan.rows
            and self._known.report(node)
            and not self._has_applied_all(node)
        }

    def _scopes_wanted(self, kept: Mapping[str, bytes]) -> set[str]:
        if not self._known.complete:
            return set(self._plan.commits)
        names = [name for name in map(subjects.parse, kept) if name]
        wanted = {subjects.ALL_SCOPE, *map(subjects.node_scope, self._known.nodes)}
        return wanted | {name.scope for name in names if name.scope}

    def _changed_verdicts(
        self, resolution: resolve.Resolution, batches: tuple[tuple[Outgoing, ...], ...]
    ) -> tuple[Outgoing, ...]:
        programmed = self._programmed(resolution, commits_after(self._plan, batches))
        buckets = verdicts.count_buckets(resolution.matched)
        progress = verdicts.Progress(self._known, resolution, programmed, buckets)
        wanted = {
            subjects.verdict(name): codec.encode(verdicts.verdict(name, progress))
            for name in sorted(self._known.policies)
        }
        changes = diff.changes(wanted, self._verdicts)
        if not self._known.complete:
            changes = tuple(change for change in changes if change.payload)
        return tuple(revision.outgoing(change.subject, change.payload, {}) for change in changes)

    def _programmed(
        self, resolution: resolve.Resolution, commits: Mapping[str, rows.Commit]
    ) -> dict[str, set[str]]:
        """Policy → nodes that have applied everything since the policy's rows there last changed."""
        self._applied = {
            key: mark
            for key, mark in marks(resolution).items()
            if self._is_up_to_date(key[1], commits) or self._applied.get(key) == mark
        }
        found: dict[str, set[str]] = {}
        for policy, node in self._applied:
            found.setdefault(policy, set()).add(node)
        return found

    def _is_up_to_date(self, node: str, commits: Mapping[str, rows.Commit]) -> bool:
        report, shared = self._known.report(node), commits.get(subjects.ALL_SCOPE)
        own = commits.get(subjects.node_scope(node))
        if not (report and shared and own):
            return False
        return report.node_revision >= own.revision and report.all_revision >= shared.revision

    def stored(self, step: engine.Step) -> None:
        for message in (message for batch in step.batches for message in batch):
            self._put(message.subject, message.payload, step.now_s)
        for message in step.verdicts:
            self._put_verdict(message.subject, message.payload)
        self._changed = self._changed or bool(step.batches)

    def _put_verdict(self, subject: str, payload: bytes) -> None:
        self._verdicts.pop(subject, None)
        if payload:
            self._verdicts[subject] = payload


def _without_peers(wanted: Mapping[str, bytes], nodes: Iterable[str]) -> dict[str, bytes]:
    refused = set(map(subjects.peer, nodes))
    return {subject: payload for subject, payload in wanted.items() if subject not in refused}


def commits_after(plan: held.Held, batches: Iterable[Iterable[Outgoing]]) -> dict[str, rows.Commit]:
    """Scope → Commit, once `batches` are stored."""
    after = held.Held()
    for scope, commit in plan.commits.items():
        after.put(subjects.commit(scope), codec.encode(commit))
    for message in (message for batch in batches for message in batch):
        after.put(message.subject, message.payload)
    return after.commits


def marks(resolution: resolve.Resolution) -> dict[tuple[str, str], tuple[int, int]]:
    """Policy and node → hashes of the rows that all its nodes need, and of those that this one needs."""
    shared = _shared(resolution)
    own: dict[tuple[str, str], int] = {}
    for name, found in resolution.chosen.items():
        for gateway in found:
            if gateway.egress:
                mark = hash(tuple(sorted(address.ip for address in gateway.egress.values())))
                own[name, gateway.node] = own.get((name, gateway.node), 0) + mark
    for subject, row in resolution.matched.endpoints.items():
        parsed = subjects.parse(subject)
        assert parsed is not None
        for policy in resolution.matched.sets[row.set]:
            key = (policy.name, parsed.node)
            own[key] = own.get(key, 0) + hash((subject, resolution.wanted[subject]))
    return {key: (shared[key[0]], mark) for key, mark in own.items()}


def _shared(resolution: resolve.Resolution) -> dict[str, int]:
    names_of = {id_: [policy.name for policy in each] for id_, each in resolution.matched.sets.items()}
    found = {
        name: hash(resolution.wanted[subjects.group(policy.uid)])
        for name, policy in resolution.versions.in_force.items()
    }
    for subject, payload in resolution.wanted.items():
        name = subjects.parse(subject)
        if name is not None and name.kind == "plan.set":
            for policy in names_of[name.ids[0]]:
                found[policy] += hash((subject, payload))
    return found
