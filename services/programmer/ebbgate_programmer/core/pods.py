"""What each pod of a node needs, followed from row to row. Part of the incremental lowering.

A pod stands by itself but for its set: where its look-ups begin depends on what the set holds. So beside the
two tables that the kernel gets, only is kept how many pods begin at each place, and what is wrong with which
row. Decoded rows are thrown away: to take a pod out its old row is read again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.reports import Problem
from ebbgate_programmer.core import desired, lowering, sharded
from ebbgate_programmer.core.kernelstate import EndpointValue
from ebbgate_programmer.core.lowering import Content, Place, Start

Known = Mapping[Place, Content | None]
"""Of places in use; None if the set is lost."""


class Pods:
    """First `take` rows, then `count`, then `settle` them, once it is known what their sets hold."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.covered: sharded.ShardedSet[str] = sharded.ShardedSet()
        self.endpoints: sharded.Sharded[str, EndpointValue] = sharded.Sharded()
        self._counts: Counter[Start] = Counter()
        self._unread: dict[str, Problem] = {}
        self._lacking: dict[str, Problem] = {}
        # Since they were settled last. Pods that begin alike are together: of their rows nothing is kept.
        self._come: defaultdict[Start, list[str]] = defaultdict(list)
        self._left: Counter[Start] = Counter()
        self._blind: list[str] = []
        self._gone: set[str] = set()

    @property
    def unread(self) -> list[Problem]:
        return [problem for _, problem in sorted(self._unread.items())]

    @property
    def lacking(self) -> list[Problem]:
        return [problem for _, problem in sorted(self._lacking.items())]

    @property
    def blind(self) -> list[str]:
        return list(filter(None, map(desired.blind_pod, self._unread)))

    def take(self, difference: sharded.Difference[str, bytes]) -> None:
        subject, new, old = difference
        if isinstance(old, bytes):
            self._forget(subject, old)
        if isinstance(new, bytes):
            self._note(subject, new)

    def _forget(self, subject: str, payload: bytes) -> None:
        self._gone.add(desired.pod_of(subject))
        if self._unread.pop(subject, None):
            return
        self._lacking.pop(subject, None)
        self._left[lowering.start(codec.decode_as(rows.Endpoint, subject, payload))] += 1

    def _note(self, subject: str, payload: bytes) -> None:
        row = desired.endpoint(subject, payload)
        if isinstance(row, Problem):
            self._unread[subject] = row
            self._blind += filter(None, [desired.blind_pod(subject)])
            return
        self._come[lowering.start(row)].append(row.ip)

    def count(self) -> frozenset[Start]:
        """Where pods begin, now that all rows were taken."""
        self._counts.update({start: len(pods) for start, pods in self._come.items()})
        self._counts.subtract(self._left)
        self._left.clear()
        self._counts = +self._counts
        return frozenset(self._counts)

    def settle(self, held: Mapping[str, bytes], known: Known, before: Known) -> None:
        """`held`: all rows. `known`: of places now; `before`: as it was when pods were settled last."""
        for subject in self._moved(held, known, before):
            row = desired.endpoint(subject, held[subject])
            if not isinstance(row, Problem):
                self._come[lowering.start(row)].append(row.ip)
        contents = {at: content for at, content in known.items() if content is not None}
        found: dict[str, EndpointValue] = {}
        dropped = self._blind
        for start, pods in self._come.items():
            at = lowering.begin(start, contents)
            if at is None:
                self._lack(pods, held)
                dropped += pods
            elif at is not lowering.LEFT_ALONE:
                found |= dict.fromkeys(pods, at)
                continue
            self._gone.update(pods)
        self.covered = self.covered.changed((*found, *dropped), self._gone)
        self.endpoints = self.endpoints.changed(found, self._gone)
        self._come, self._blind, self._gone = defaultdict(list), [], set()

    def _lack(self, pods: Iterable[str], held: Mapping[str, bytes]) -> None:
        for subject in (subjects.endpoint(self._node, pod) for pod in pods):
            row = desired.endpoint(subject, held[subject])
            assert isinstance(row, rows.Endpoint), subject
            self._lacking[subject] = lowering.lack(row)

    def _moved(self, held: Mapping[str, bytes], known: Known, before: Known) -> Iterator[str]:
        """Rows whose sets hold something else now.

        before    where their pods are
        lost      among the lacking
        empty     nowhere: all that aren't covered have to be asked
        else      among the endpoints, by the set's id, which other sets of the same content may have too
        """
        olds = [old for at, old in before.items() if at in known and known[at] is not old]
        ids = {old.id for old in olds if old is not None and old.routes}
        if ids:
            named = (
                subjects.endpoint(self._node, pod) for pod, at in self.endpoints.items() if at.set in ids
            )
            yield from (subject for subject in named if subject in held)
        if None in olds:
            # All that lack a set: those that still do are found to lack it again.
            lacking, self._lacking = self._lacking, {}
            yield from lacking
        if any(old is not None and not old.routes for old in olds):
            prefix = f"{subjects.node_scope(self._node)}.endpoint."
            yield from (
                subject
                for subject in held
                if subject.startswith(prefix) and desired.pod_of(subject) not in self.covered
            )


class Names(Mapping[str, str]):
    """Address → namespace/name, looked for in the rows when somebody asks, which is seldom."""

    def __init__(self, node: str, held: Mapping[str, bytes]) -> None:
        self._node, self._held = node, held

    def __getitem__(self, address: str) -> str:
        subject = subjects.endpoint(self._node, address)
        row = desired.endpoint(subject, self._held[subject])
        if isinstance(row, Problem):
            raise KeyError(address)
        return row.pod

    def __iter__(self) -> Iterator[str]:
        prefix = f"{subjects.node_scope(self._node)}.endpoint."
        found = (desired.endpoint(*item) for item in self._held.items() if item[0].startswith(prefix))
        return (row.ip for row in found if isinstance(row, rows.Endpoint))

    def __len__(self) -> int:
        return sum(1 for _ in self)
