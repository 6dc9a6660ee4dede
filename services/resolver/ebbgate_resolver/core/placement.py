"""Placement: which pod is in which set, and which pod has an address: endpoint rows, pod by pod.

Leg: a part of Inventory → Rows. What a pod is asked for here, `endpoints.match` asks all pods for; the rows
must be the same. Pods come in as keys that may have changed; rows, and who is counted where, change once per
step, when all pods are placed, so that two pods that swap an address make one change.
"""

import bisect
from collections.abc import Iterable, Sequence

import msgspec

from ebbgate_bus.contracts import codec, subjects
from ebbgate_resolver.core import answers, crowds, endpoints, inventory, sets, wanted

PodKey = inventory.PodKey


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a pod is: its set, its node, and the subjects of its addresses there. `pod`: namespace/name."""

    combination: sets.Combination
    node: str
    claims: tuple[str, ...]
    pod: str


class Row(msgspec.Struct, frozen=True, gc=False):
    """An endpoint row, as it is counted. `mark`: hash of subject and payload."""

    owner: PodKey
    names: tuple[str, ...]
    node: str
    bucket: int
    mark: int


class Counts:
    """By policy: pods, nodes with pods, and pods by bucket. Kept for verdicts, one pod at a time."""

    def __init__(self) -> None:
        self.pods: dict[str, set[str]] = {}
        self.nodes: dict[str, set[str]] = {}
        self.sorted_nodes: dict[str, list[str]] = {}
        self.buckets: dict[str, dict[int, int]] = {}
        self._on_node: dict[tuple[str, str], int] = {}

    def add(self, name: str, place: Place) -> None:
        self.pods.setdefault(name, set()).add(place.pod)
        count = self._on_node[name, place.node] = self._on_node.get((name, place.node), 0) + 1
        if count == 1:
            self.nodes.setdefault(name, set()).add(place.node)
            bisect.insort(self.sorted_nodes.setdefault(name, []), place.node)

    def remove(self, name: str, place: Place) -> None:
        self.pods[name].discard(place.pod)
        self._on_node[name, place.node] -= 1
        if not self._on_node[name, place.node]:
            del self._on_node[name, place.node]
            self.nodes[name].discard(place.node)
            of_policy = self.sorted_nodes[name]
            del of_policy[bisect.bisect_left(of_policy, place.node)]

    def count_bucket(self, row: Row, difference: int) -> None:
        for name in row.names:
            of_policy = self.buckets.setdefault(name, {})
            of_policy[row.bucket] = of_policy.get(row.bucket, 0) + difference
            if not of_policy[row.bucket]:
                del of_policy[row.bucket]


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
                self._move(key, old, new, outcome)
        self._settle(contested, outcome)
        return outcome

    def _find(self, key: PodKey, crowds_: crowds.Crowds, outcome: Outcome) -> Place | None:
        pod = self._known.pods.get(key)
        names: tuple[str, ...] = ()
        if pod is not None and endpoints.counts(pod, self._known):
            names = crowds_.chosen_by(key, self._known.nodes[pod.node])
        reason = endpoints.obstacle(pod) if pod and names else ""
        if reason or key in self._said:
            self._say(key, endpoints.ignored(pod, reason) if pod and reason else (), outcome)
        if pod is None or not names or reason:
            return None
        claims = {subjects.endpoint(pod.node, ip): None for ip in pod.ips if endpoints.is_address(ip)}
        name = f"{pod.namespace}/{pod.name}"
        return Place(self._sets.join(names, key), pod.node, tuple(claims), name)

    def _move(self, key: PodKey, old: Place | None, new: Place | None, outcome: Outcome) -> None:
        for place, change in ((old, self.counts.remove), (new, self.counts.add)):
            if place is not None:
                for name in place.combination.names:
                    change(name, place)
                outcome.policies.update(place.combination.names)
        if old:
            del self._places[key]
            if new is None or new.combination is not old.combination:
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
        """Write the row of the pod that has this address, and say of the others that they haven't."""
        claimants = self._claims.get(subject, ())
        if len(claimants) > 1 or (subject,) in self._said:
            claimants = self._by_precedence(subject, claimants, outcome)
        if not claimants:
            self._wanted.put_payload(subject, b"")
            return None
        first, ip = claimants[0], subjects.unescape(subject.rpartition(".")[2])
        combination, owner = self._places[first].combination, self._known.pods[first]
        row = endpoints.row(owner, ip, combination.id)
        payload = codec.encode(row)
        self._wanted.put_payload(subject, payload)
        return Row(first, combination.names, owner.node, row.bucket, hash((subject, payload)))

    def _by_precedence(
        self, subject: str, claimants: tuple[PodKey, ...], outcome: Outcome
    ) -> tuple[PodKey, ...]:
        """The owner first. To the others it is said that they aren't."""
        pods, ip = self._known.pods, subjects.unescape(subject.rpartition(".")[2])
        ordered = tuple(sorted(claimants, key=lambda key: endpoints.precedence(pods[key])))
        rivals = [endpoints.shared(ip, pods[ordered[0]], pods[key]) for key in ordered[1:]]
        self._say((subject,), rivals, outcome)
        return ordered

    def _say(self, source: tuple[str, ...], said: Sequence[answers.Note], outcome: Outcome) -> None:
        outcome.notes[source] = tuple(said)
        (self._said.add if said else self._said.discard)(source)

    def _own(self, row: Row, difference: int, outcome: Outcome) -> None:
        """A pod counts once in its bucket, however many addresses it has."""
        outcome.rows.append((row, difference))
        count = self._owned.get(row.owner, 0) + difference
        self._owned[row.owner] = count
        if not count:
            del self._owned[row.owner]
        if count == (1 if difference > 0 else 0):
            self.counts.count_bucket(row, difference)
            outcome.policies.update(row.names)
