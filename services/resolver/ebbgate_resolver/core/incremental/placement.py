"""Placement: which pod is in which set, and which pod has an address: endpoint rows, pod by pod.

Leg: a part of Inventory → Rows. What a pod is asked for here, `endpoints.match` asks all pods for; the rows
must be the same. Pods come in as keys that may have changed; rows, and who is counted where, change once per
step, when all pods are placed, so that two pods that swap an address make one change. Claims to addresses are
kept of all pods that count, chosen or not: that is what it takes to know at once whose an address is.
"""

import bisect
from collections.abc import Iterable, Sequence

import msgspec

from ebbgate_bus.contracts import codec, subjects
from ebbgate_resolver.core import answers, inventory
from ebbgate_resolver.core.incremental import crowds, sets
from ebbgate_resolver.core.plan import wanted
from ebbgate_resolver.core.rules import endpoints

PodKey = inventory.PodKey


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a pod is: its set (None: no policy chooses it), its node, the subjects of its addresses there."""

    combination: sets.Combination | None
    node: str
    claims: tuple[str, ...]


class Row(msgspec.Struct, frozen=True, gc=False):
    """An endpoint row, as it is counted. `mark`: hash of subject and payload."""

    owner: PodKey
    names: tuple[str, ...]
    node: str
    bucket: int
    mark: int


class Counts:
    """By policy: pods, nodes with pods, and pods by bucket. Kept for verdicts, one pod at a time. A pod
    counts once, however many addresses it has, and not at all without a row.
    """

    def __init__(self) -> None:
        self.pods: dict[str, set[PodKey]] = {}
        self.nodes: dict[str, set[str]] = {}
        self.sorted_nodes: dict[str, list[str]] = {}
        self.buckets: dict[str, dict[int, int]] = {}
        self._on_node: dict[tuple[str, str], int] = {}

    def add(self, row: Row) -> None:
        for name in row.names:
            self.pods.setdefault(name, set()).add(row.owner)
            self._count_bucket(name, row.bucket, 1)
            count = self._on_node[name, row.node] = self._on_node.get((name, row.node), 0) + 1
            if count == 1:
                self.nodes.setdefault(name, set()).add(row.node)
                bisect.insort(self.sorted_nodes.setdefault(name, []), row.node)

    def remove(self, row: Row) -> None:
        for name in row.names:
            self.pods[name].discard(row.owner)
            self._count_bucket(name, row.bucket, -1)
            self._on_node[name, row.node] -= 1
            if not self._on_node[name, row.node]:
                del self._on_node[name, row.node]
                self.nodes[name].discard(row.node)
                of_policy = self.sorted_nodes[name]
                del of_policy[bisect.bisect_left(of_policy, row.node)]

    def _count_bucket(self, name: str, bucket: int, difference: int) -> None:
        of_policy = self.buckets.setdefault(name, {})
        of_policy[bucket] = of_policy.get(bucket, 0) + difference
        if not of_policy[bucket]:
            del of_policy[bucket]


class Outcome(msgspec.Struct, frozen=True):
    """`policies`: those whose counts changed. `rows`: those removed (-1) and added (1). `notes`: by source,
    what there is to say of it now.
    """

    policies: set[str] = set()
    rows: list[tuple[Row, int]] = []
    notes: dict[tuple[str, ...], tuple[answers.Note, ...]] = {}


class Placement:
    def __init__(self, known: inventory.Inventory, sets_: sets.Sets, rows_: wanted.Wanted) -> None:
        self.counts = Counts()
        self._known = known
        self._sets = sets_
        self._wanted = rows_
        self._places: dict[PodKey, Place] = {}
        self._claims: dict[str, tuple[PodKey, ...]] = {}
        self._rows: dict[str, Row] = {}
        self._owned: dict[PodKey, int] = {}
        self._said: set[tuple[str, ...]] = set()
        """Pods and addresses with notes: most have none."""

    def place(self, keys: Iterable[PodKey], crowds_: crowds.Crowds) -> Outcome:
        """Every pod whose fact, set or node may have changed is among `keys`."""
        outcome = Outcome()
        contested: set[str] = set()
        for key in keys:
            old = self._places.get(key)
            new = self._find(key, crowds_, outcome)
            if old is not None:
                contested.update(old.claims)
            if new is not None:
                contested.update(new.claims)
            if old != new:
                self._move(key, old, new)
        self._settle(contested, outcome)
        return outcome

    def _find(self, key: PodKey, crowds_: crowds.Crowds, outcome: Outcome) -> Place | None:
        pod = self._known.pods.get(key)
        if pod is not None and not endpoints.counts(pod, self._known):
            pod = None
        names = crowds_.chosen_by(key, self._known.nodes[pod.node]) if pod else ()
        reason = endpoints.obstacle(pod) if pod else ""
        if (names and reason) or key in self._said:
            self._say(key, endpoints.ignored(pod, reason) if pod and names and reason else (), outcome)
        if pod is None or reason:
            return None
        claims = {subjects.endpoint(pod.node, ip): None for ip in pod.ips if endpoints.is_address(ip)}
        return Place(self._sets.join(names, key) if names else None, pod.node, tuple(claims))

    def _move(self, key: PodKey, old: Place | None, new: Place | None) -> None:
        if old:
            del self._places[key]
            if old.combination and (new is None or new.combination is not old.combination):
                self._sets.leave(old.combination, key)
        if new:
            self._places[key] = new
        self._claim(key, old.claims if old else (), new.claims if new else ())

    def _claim(self, key: PodKey, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        for subject in old:
            rest = tuple(each for each in self._claims[subject] if each != key)
            self._claims[subject] = rest
            if not rest:
                del self._claims[subject]
        for subject in new:
            others = self._claims.get(subject)
            self._claims[subject] = (*others, key) if others else (key,)

    def _settle(self, contested: Iterable[str], outcome: Outcome) -> None:
        """Removed rows are counted before added ones: only then does a pod's count pass through zero where
        its set changes.
        """
        changed = [(subject, self._rows.get(subject), self._row(subject, outcome)) for subject in contested]
        changed = [each for each in changed if each[1] != each[2]]
        for subject, old, _ in changed:
            if old:
                del self._rows[subject]
                self._own(old, -1, outcome)
        for subject, _, new in changed:
            if new:
                self._rows[subject] = new
                self._own(new, 1, outcome)

    def _row(self, subject: str, outcome: Outcome) -> Row | None:
        """Write the row of the pod that has this address, if a policy chooses it, and say of the others that
        they don't have it.
        """
        claimants = self._claims.get(subject, ())
        if len(claimants) > 1 or (subject,) in self._said:
            claimants = self._by_precedence(subject, claimants, outcome)
        first = claimants[0] if claimants else None
        combination = self._places[first].combination if first else None
        if first is None or combination is None:
            self._wanted.put_payload(subject, b"")
            return None
        owner, ip = self._known.pods[first], subjects.unescape(subject.rpartition(".")[2])
        row = endpoints.row(owner, ip, combination.id)
        payload = codec.encode(row)
        self._wanted.put_payload(subject, payload)
        return Row(first, combination.names, owner.node, row.bucket, hash((subject, payload)))

    def _by_precedence(
        self, subject: str, claimants: tuple[PodKey, ...], outcome: Outcome
    ) -> tuple[PodKey, ...]:
        """The owner first. Of the others it is said that they aren't, where a policy is concerned."""
        pods, ip = self._known.pods, subjects.unescape(subject.rpartition(".")[2])
        ordered = tuple(sorted(claimants, key=lambda key: endpoints.precedence(pods[key])))
        chosen = [self._places[key].combination is not None for key in ordered]
        rivals = [
            endpoints.shared(ip, pods[ordered[0]], pods[key])
            for key, is_chosen in zip(ordered[1:], chosen[1:], strict=True)
            if is_chosen or chosen[0]
        ]
        self._say((subject,), rivals, outcome)
        return ordered

    def _say(self, source: tuple[str, ...], said: Sequence[answers.Note], outcome: Outcome) -> None:
        outcome.notes[source] = tuple(said)
        (self._said.add if said else self._said.discard)(source)

    def _own(self, row: Row, difference: int, outcome: Outcome) -> None:
        """Count the row, and with its first or last one the pod."""
        outcome.rows.append((row, difference))
        count = self._owned.get(row.owner, 0) + difference
        self._owned[row.owner] = count
        if not count:
            del self._owned[row.owner]
        if count == (1 if difference > 0 else 0):
            (self.counts.add if difference > 0 else self.counts.remove)(row)
            outcome.policies.update(row.names)
