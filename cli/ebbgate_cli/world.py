"""A cluster in memory: objects in, rows out, through the very engine that the resolver runs.

Leg: the walk from Kubernetes object to row and back by Applied, without bus, kernel and clock; for `ebbgate
plan`, `ebbgate test` and the tests of stories. Its programmers report at once what they were told, so gates
are open when the world has settled. It decides nothing: what it did itself would be missing in production.
"""

from collections.abc import Callable

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import answers, engine, inventory, listing
from ebbgate_watcher.core import objects

ROUNDS_MAX = 100
"""Steps until nothing changes any more; a handful is usual."""


class World:
    """`on_batches` sees those of a step before they count, e.g. to check that each is safe alone.
    `known`: all facts and reports, for questions; `facts`: those that were put, by subject.
    """

    def __init__(self, on_batches: Callable[[tuple[tuple[Outgoing, ...], ...]], None] | None = None) -> None:
        self.resolver = engine.Resolver()
        self.resolver.epoch = 1
        self.known = inventory.Inventory()
        self.facts: dict[str, facts.Fact] = {}
        self.now_s = 0.0
        self.verdicts: dict[str, reports.Verdict] = {}
        self.notes: list[answers.Note] = []
        self._on_batches = on_batches
        self._uids: dict[str, str] = {}
        self._unusable_policies: dict[str, str] = {}
        self._applied: dict[str, bytes] = {}
        self._nodes: set[str] = set()
        for kind in facts.KINDS:
            self._fold(subjects.synced(kind), facts.Synced(kind=kind))

    def put(self, seen: objects.Observed | objects.Unusable) -> None:
        """An object as it is now. Of the unusable only policies leave a trace: they are `rejected`."""
        if isinstance(seen, objects.Unusable):
            if seen.kind == "policy":
                self._unusable_policies[seen.name] = seen.reason
            return
        if isinstance(seen.fact, facts.Policy):
            self._unusable_policies.pop(seen.fact.name, None)
        if isinstance(seen.fact, facts.Node):
            self._nodes.add(seen.fact.name)
        self._uids[seen.subject] = seen.uid
        self.facts[seen.subject] = seen.fact
        self._fold(seen.subject, seen.fact)

    def remove(self, kind: str, name: str, *, namespace: str = "", uid: str = "") -> None:
        """`kind`: the fact's. With a uid only that very object; one that isn't there is no error."""
        if kind == "policy":
            self._unusable_policies.pop(name, None)
        if not name:
            return
        subject = (
            subjects.fact(kind, namespace or "default", name) if kind == "pod" else subjects.fact(kind, name)
        )
        if uid and self._uids.get(subject) != uid:
            return
        if kind == "node":
            self._nodes.discard(name)
        self._uids.pop(subject, None)
        self.facts.pop(subject, None)
        self._fold(subject, facts.GONE)

    def settle(self) -> None:
        """Step, store and report until nothing changes any more."""
        for _ in range(ROUNDS_MAX):
            self.now_s += 1.0
            step = self.resolver.step(self.now_s)
            self._take(step)
            if not step.batches and not step.verdicts:
                return
            self._report()
        raise AssertionError(f"the rows still change after {ROUNDS_MAX} steps")

    def entries(self, node: str | None = None) -> list[listing.Entry]:
        return listing.entries(self.resolver.live_rows, node)

    def rejected(self) -> dict[str, str]:
        """Policy → why its latest version isn't in force."""
        found = {}
        for verdict in self.verdicts.values():
            for condition in verdict.conditions:
                if condition.type == "Accepted" and condition.status is reports.Truth.FALSE:
                    found[verdict.policy] = condition.message
        return found | self._unusable_policies

    @property
    def nodes(self) -> set[str]:
        return set(self._nodes)

    def _fold(self, subject: str, message: Message | facts.Gone) -> None:
        self.known.fold(subject, message)
        self.resolver.fold([Stored(subject, codec.encode(message), 0)])

    def _take(self, step: engine.Step) -> None:
        if self._on_batches and step.batches:
            self._on_batches(step.batches)
        for message in step.verdicts:
            self.verdicts.pop(message.subject, None)
            if message.payload and isinstance(
                verdict := codec.decode(message.subject, message.payload), reports.Verdict
            ):
                self.verdicts[message.subject] = verdict
        self.notes += step.notes
        self.resolver.stored(step)

    def _report(self) -> None:
        """Each node's programmer applies its scope and says what its kernel has now."""
        slots: dict[str, dict[str, str]] = {node: {} for node in self._nodes}
        for subject, payload in self.resolver.live_rows.items():
            name = subjects.parse(subject)
            if name is None or name.kind != "plan.egress" or name.node not in slots:
                continue
            if isinstance(row := codec.decode(subject, payload), rows.Egress):
                slots[name.node][name.ids[0]] = row.egress_ip
        for node in sorted(self._nodes):
            applied = self._applied_by(node, slots[node])
            payload = codec.encode(applied)
            if self._applied.get(node) != payload:
                self._applied[node] = payload
                self._fold(subjects.status(node), applied)

    def _applied_by(self, node: str, slots: dict[str, str]) -> reports.Applied:
        all_commit = self.resolver.commits.get(subjects.ALL_SCOPE)
        own_commit = self.resolver.commits.get(subjects.node_scope(node))
        return reports.Applied(
            node=node,
            epoch=own_commit.epoch if own_commit else 0,
            all_revision=all_commit.revision if all_commit else 0,
            node_revision=own_commit.revision if own_commit else 0,
            digest=own_commit.digest if own_commit else "",
            slots=slots,
        )
