"""The mirror: what must be published so that FACT says what Kubernetes says. The watcher's whole decision.

Level-triggered: the mirror keeps the world as last seen and the facts as stored, and each step publishes the
difference; an event, a relist, a restart and a bus that lost its data are the same comparison. It must never
publish an equal payload again, never call a kind synced before its facts are acknowledged, and never take an
object for gone because it couldn't be read: all three would move traffic without reason. A watcher that
stands by has a mirror, too: it keeps the world, knows nothing of what is stored, and so publishes nothing.

World and FACT share the bytes of what is equal in both: there are 150,000 pods in a large cluster.

Gone or not, of an object in the stored facts, once its kind was listed:

    in the world            payload differs?   published
    yes                     no                 nothing
    yes                     yes                the new payload
    listed, but unreadable  -                  nothing: the last good one stays
    no                      -                  tombstone
"""

from collections.abc import Sequence

from ebbgate_bus.contracts import codec, envelope, facts, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_watcher.core import backlog, complaints, inputs, objects, orphans

BATCH = streams.MAX_BATCH - 1
"""Changes of one step at most: a batch of the bus, of which one message says who writes it."""

MISSING_S = 30.0
"""How long a kind with stored facts may be unknown to the API before "unknown" means "none": a CRD that is
being replaced must not take its policies away.
"""


class Mirror:
    """`step` is the whole interface; `wake_at` says when to step again though nothing arrives."""

    def __init__(self, kinds: Sequence[str] = facts.KINDS) -> None:
        self._kinds = tuple(kinds)
        self._world: dict[str, dict[str, objects.Observed]] = {}
        self._stored: dict[str, dict[str, bytes]] | None = None
        self._synced: dict[str, facts.Synced] = {}
        self._stored_synced: dict[str, bytes] = {}
        self._unreadable: dict[str, set[str]] = {}
        self._missing_since: dict[str, float] = {}
        self._backlog = backlog.Backlog()
        self._complaints = complaints.Complaints()
        self._orphans = orphans.Orphans(mirrored="nodenetwork" in self._kinds)
        self._remarks: list[inputs.Remark] = []

    def step(self, arrived: Sequence[inputs.Input], now: float) -> list[inputs.Output]:
        """Take in all that `arrived`; what to do about it, in order. `now`: seconds on any steady clock."""
        for each in arrived:
            self._take(each, now)
        self._give_up_missing(now)
        outputs: list[inputs.Output] = [*self._remarks]
        self._remarks = []
        if self._stored is not None:
            said = (self._changes(self._stored), self._synced_changes())
            outputs += [inputs.Publish(tuple(batch)) for batch in said if batch]
            if removed := self._orphans.due(self._world.get("node"), now):
                outputs.append(inputs.Discard(tuple(map(tombstone, removed))))
        return outputs

    @property
    def ready(self) -> bool:
        """Every kind was listed, and what was published makes FACT agree with it."""
        listed = self._synced.keys() >= set(self._kinds)
        return self._stored is not None and listed and not self._backlog

    @property
    def warm(self) -> bool:
        """Every kind was listed: ready to publish as soon as what is stored is known."""
        return self._synced.keys() | self._missing_since.keys() >= set(self._kinds)

    @property
    def counts(self) -> dict[str, int]:
        """How many objects of each kind there are."""
        return {kind: len(world) for kind, world in self._world.items()}

    def wake_at(self) -> float | None:
        """When to step though nothing arrives, or None."""
        if self._stored is None:
            return None
        if self._backlog:
            return 0.0
        waiting = [since + MISSING_S for since in self._missing_since.values()]
        if (due := self._orphans.wake_at()) is not None:
            waiting.append(due)
        return min(waiting, default=None)

    def _take(self, each: inputs.Input, now: float) -> None:
        match each:
            case inputs.Seen():
                self._take_seen(each)
            case inputs.Vanished():
                self._take_vanished(each)
            case inputs.Listed(missing=True):
                self._take_missing(each, now)
            case inputs.Listed():
                self._take_listed(each)
            case inputs.Published():
                self._take_published(each)
            case inputs.Overtaken():
                self._stored, self._stored_synced = None, {}
                self._backlog.clear()
            case inputs.Reported():
                self._orphans.take(each)
            case inputs.Broken():
                self._remarks += self._complaints.broken(each)
            case _:  # Recovered: mypy knows that nothing else is left
                self._remarks += self._complaints.recovered(each.origin, each.part)

    def _take_seen(self, event: inputs.Seen) -> None:
        self._remarks += self._complaints.about(event.object)
        if isinstance(event.object, objects.Observed):
            self._world.setdefault(event.kind, {})[event.object.subject] = event.object
            self._touch(event.kind, event.object.subject, event.seen_ns)

    def _take_vanished(self, event: inputs.Vanished) -> None:
        self._unreadable.get(event.kind, set()).discard(event.subject)
        known = self._world.get(event.kind, {}).get(event.subject)
        if known is None or (event.uid and known.uid and known.uid != event.uid):
            return
        del self._world[event.kind][event.subject]
        self._complaints.forget(event.subject)
        self._touch(event.kind, event.subject, event.seen_ns)

    def _take_listed(self, listed: inputs.Listed) -> None:
        self._missing_since.pop(listed.kind, None)
        before = self._world.get(listed.kind, {})
        world: dict[str, objects.Observed] = {}
        unreadable = set()
        for each in listed.objects:
            self._remarks += self._complaints.about(each)
            if isinstance(each, objects.Observed):
                world[each.subject] = each
            elif last_good := before.get(each.subject):
                world[each.subject] = last_good
            elif each.subject:
                unreadable.add(each.subject)
        self._unreadable[listed.kind] = unreadable
        self._replace(listed, world)

    def _take_missing(self, listed: inputs.Listed, now: float) -> None:
        since = self._missing_since.setdefault(listed.kind, now)
        if since == now:
            trouble = inputs.Broken(listed.kind, "the API doesn't know this kind")
            self._remarks += self._complaints.broken(trouble)

    def _give_up_missing(self, now: float) -> None:
        """Missing means none: at once if no facts of it are stored, else when it has lasted."""
        for kind, since in list(self._missing_since.items()):
            if self._stored is None or (self._stored.get(kind) and now - since < MISSING_S):
                continue
            del self._missing_since[kind]
            self._replace(inputs.Listed(kind, (), 0, missing=True), {})

    def _replace(self, listed: inputs.Listed, world: dict[str, objects.Observed]) -> None:
        before = self._world.get(listed.kind, {})
        for subject in before.keys() - world.keys():
            self._complaints.forget(subject)
        if not listed.missing:
            self._remarks += self._complaints.recovered(listed.kind)
        self._world[listed.kind] = world
        self._synced[listed.kind] = facts.Synced(kind=listed.kind, objects=len(world), missing=listed.missing)
        self._compare(listed.kind, listed.seen_ns)

    def _take_published(self, published: inputs.Published) -> None:
        self._stored = {kind: {} for kind in self._kinds}
        self._stored_synced = {}
        for message in published.messages:
            name = subjects.parse(message.subject)
            family, _, kind = name.kind.partition(".") if name else ("", "", "")
            if family == "fact" and kind in self._stored and message.payload:
                self._stored[kind][message.subject] = message.payload
            elif family == "synced":
                self._stored_synced[message.subject] = message.payload
        self._backlog.clear()
        for kind in self._synced:
            self._compare(kind, 0)

    def _compare(self, kind: str, seen_ns: int) -> None:
        """Touch all that differs between world and FACT. Sorted, so that equal situations publish equally."""
        if kind == "node":
            self._orphans.look_again()
        if self._stored is None:
            return
        stored, world = self._stored[kind], self._world[kind]
        for subject in self._unreadable.get(kind, set()) & stored.keys():
            world[subject] = objects.Observed(subject, stored[subject], kind, "")  # the last good one
        differing = [subject for subject in stored if subject not in world]
        for subject, known in world.items():
            if stored.get(subject) == known.payload:
                stored[subject] = known.payload  # one object for both: most of what the watcher holds
            else:
                differing.append(subject)
        for subject in sorted(differing):
            self._backlog.touch(subject, seen_ns, exists=subject in world)

    def _touch(self, kind: str, subject: str, seen_ns: int) -> None:
        if kind == "node":
            self._orphans.look_again()
        if self._stored is not None and kind in self._synced:
            self._backlog.touch(subject, seen_ns, exists=subject in self._world[kind])

    def _changes(self, stored: dict[str, dict[str, bytes]]) -> list[Outgoing]:
        """Messages for what still differs of what waits; what is beyond BATCH is left to the next step."""
        changes = []
        for subject, seen_ns in self._backlog.take(BATCH):
            kind = _kind_of(subject)
            changes += self._change(stored[kind], subject, self._world.get(kind, {}).get(subject), seen_ns)
        return changes

    def _change(
        self, stored: dict[str, bytes], subject: str, known: objects.Observed | None, seen_ns: int
    ) -> list[Outgoing]:
        headers = {envelope.SEEN: str(seen_ns)} if seen_ns else {}
        if known is None:
            return [tombstone(subject, headers)] if stored.pop(subject, None) else []
        if stored.get(subject) == known.payload:
            stored[subject] = known.payload
            return []
        stored[subject] = known.payload
        if known.resource_version:
            headers[envelope.RESOURCE_VERSION] = known.resource_version
        return [Outgoing(subject, known.payload, headers)]

    def _synced_changes(self) -> list[Outgoing]:
        """Synced of kinds that lack it. A mere change of the number isn't said again: a restart in an
        unchanged world writes nothing, however much was added since the last one.
        """
        if self._backlog:
            return []
        changes = []
        for kind, synced in self._synced.items():
            subject, payload = subjects.synced(kind), codec.encode(synced)
            if _missing(subject, self._stored_synced.get(subject, b"")) != synced.missing:
                self._stored_synced[subject] = payload
                changes.append(Outgoing(subject, payload))
        return changes


def tombstone(subject: str, headers: dict[str, str] | None = None) -> Outgoing:
    """Gone, readable as such for as long as a late reader may need to tell it from "never heard of"."""
    return Outgoing(subject, b"", (headers or {}) | {envelope.TTL: streams.TOMBSTONE_TTL})


def _kind_of(fact: str) -> str:
    return fact[len(_FACT_PREFIX) : fact.index(".", len(_FACT_PREFIX))]


_FACT_PREFIX = f"{subjects.ROOT}.fact."


def _missing(subject: str, payload: bytes) -> bool | None:
    """Whether a stored Synced says that the kind is missing; None if there is none to be read."""
    try:
        message = codec.decode(subject, payload)
    except codec.Undecodable:
        return None
    return message.missing if isinstance(message, facts.Synced) else None
