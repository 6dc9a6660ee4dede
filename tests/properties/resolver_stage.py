"""The two engines on a stage: moves are chosen, and every step is compared and judged.

Moves what indexes could miss: labels of everything, selectors with every operator, uids, ages, phases, syncs
that come late, reports that lag or complain, PLAN read again, time that jumps. Mostly an object that is there
is altered a little, so that the world stays as dense as it began; an index that forgets something then has
something to forget.
"""

import msgspec

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from tests.properties import engine_twins, witnesses
from tests.properties import resolver_histories as histories
from tests.properties.resolver_histories import Choose
from tests.scenarios import safety
from tests.unit import resolver_objects as objects

UIDS = ("uid-x", "uid-y")
"""Of policies: one of them may well have another's."""
SETTING = ("172.16.0.0/12",)
DESTINATIONS = ["20.0.0.1", "20.1.0.1", "10.0.0.1", "2600::1"]
_NONSENSE = b'{"v":9}'
_KINDS = [
    *[facts.Pod] * 6,
    *[facts.Policy] * 4,
    *[facts.Node] * 2,
    *[facts.NodeNetwork] * 2,
    facts.Namespace,
    facts.ServiceCidr,
]


class Stage:
    def __init__(self, choose: Choose) -> None:
        self.choose = choose
        self.checker = safety.Safety()
        self.facts: dict[str, Stored] = {}
        self.alive: dict[str, Message] = {}
        self.reports: dict[str, Stored] = {}
        self.now_s = 0.0
        self._restart()
        self._begin()

    def _begin(self) -> None:
        made: list[Message] = [
            *objects.SYNCED[: self.choose([None] * 7 + [2])],
            *histories.ground(),
            *(histories.namespace(self.choose, name) for name in histories.NAMESPACES),
            *(histories.pod(self.choose, key) for key in histories.PODS),
            *(histories.policy(self.choose, name) for name in histories.POLICIES),
        ]
        for each in made:
            self._fold(objects.stored(each))
        self.step()

    def move(self) -> None:
        """One change, and mostly a step."""
        moves = [self._alter] * 12 + [self._bring] * 4 + [self._remove] * 2 + [self._report] * 4
        moves += [self._answer] * 2 + [self._divert] * 2 + [self._rival] * 2
        moves += [self._disturb, self._forget, self._wait, self._restart, self._compare]
        self.choose(moves)()
        if self.choose([True, True, False]):
            self.step()

    def step(self) -> bool:
        """Whether rows were written."""
        self.now_s += 1.0
        made = self.resolver.step(self.now_s)
        self.checker.take(made.batches)
        for message in made.verdicts:
            self.reports[message.subject] = Stored(message.subject, message.payload, 0)
        self.resolver.stored(made)
        assert self.resolver.live_rows == self.checker.rows
        return bool(made.batches)

    def _compare(self) -> None:
        """In a world at rest, of which everything is known, `explain` says what the rows do."""
        while self.step():
            pass
        known, plan = self.resolver.known, self.resolver.plan
        if known.complete:
            witnesses.check(known, plan, DESTINATIONS, SETTING)

    def _alter(self) -> None:
        """Of what is there one thing is a little different: relabelled, moved, readdressed, born again."""
        self._alter_one(self.choose(_KINDS))

    def _alter_one(self, kind: type[Message]) -> None:
        if alive := [each for each in self.alive.values() if isinstance(each, kind)]:
            self._fold(objects.stored(histories.altered(self.choose, self.choose(alive), UIDS)))

    def _divert(self) -> None:
        """Paths are open, a gateway changes, and before the new one answers something happens to the old."""
        for node in histories.NODES:
            self._report_of(node, 0, "")
        self.step()
        self._alter_one(self.choose([facts.Policy, facts.Node, facts.NodeNetwork]))
        self.step()
        of_nodes = [lambda: self._alter_one(facts.NodeNetwork), lambda: self._alter_one(facts.Node)]
        self.choose([self._forget, self._remove, *of_nodes])()

    def _rival(self) -> None:
        """A pod gets another's address, and is of another age than it seemed."""
        pods = [each for each in self.alive.values() if isinstance(each, facts.Pod)]
        if not pods:
            return
        one, other = self.choose(pods), histories.pod(self.choose)
        rival = msgspec.structs.replace(other, node=one.node, ips=one.ips)
        self._fold(objects.stored(rival))
        self.step()
        self._fold(objects.stored(msgspec.structs.replace(rival, created=self.choose(histories.TIMES))))

    def _bring(self) -> None:
        """An object comes, comes back, or is replaced."""
        self._fold(objects.stored(histories.anything(self.choose, UIDS)))

    def _remove(self) -> None:
        """Often it comes back as it was: a gateway that was lost, a pod that was missed."""
        kind = self.choose(_KINDS)
        if alive := [each for each in self.alive.values() if isinstance(each, kind)]:
            lost = self.choose(alive)
            self._fold(objects.gone(lost))
            self._restore(lost)

    def _restore(self, lost: Message) -> None:
        if self.choose([True, True, False]):
            self.step()
            self._fold(objects.stored(lost))

    def _answer(self) -> None:
        """All nodes report; what was stored may allow what had to wait."""
        behind = self.choose([0, 0, 2])
        for node in histories.NODES:
            self._report_of(node, behind, None)

    def _report(self) -> None:
        node, complains = self.choose(histories.NODES), self.choose([None, None, "x", "y", ""])
        self._report_of(node, self.choose([0, 0, 1, 3]), complains)

    def _report_of(self, node: str, behind: int, complains: str | None) -> None:
        """`complains`: about which policy; empty: about none."""
        message = histories.report(self.checker.rows, node, max(0, self.checker.revision - behind))
        applied = codec.decode(message.subject, message.payload)
        assert isinstance(applied, reports.Applied)
        if complains is not None:
            trouble = reports.Problem(reason="map full", policy=complains)
            applied = msgspec.structs.replace(applied, problems=(trouble,))
        self.reports[message.subject] = Stored(message.subject, codec.encode(applied), 0)
        self.resolver.fold([self.reports[message.subject]])

    def _disturb(self) -> None:
        match self.choose(["sync", "sync", "unsync", "unsync", "beat", "nonsense", "lose", "lose", "read"]):
            case "sync":
                for each in objects.SYNCED:
                    self._fold(objects.stored(each))
            case "unsync":
                self._unsync()
            case "beat":
                node = self.choose(histories.NODES)
                self.resolver.fold([Stored(subjects.beat("programmer", node), b"{}", 0)])
            case "nonsense":
                self._garble(subjects.fact("policy", self.choose(histories.POLICIES)))
            case "lose":  # nothing was stored; the shell reads PLAN again
                self.resolver.step(self.now_s)
                self.resolver.replace_plan(self._plan(), self.now_s)
            case "read":
                self._read()

    def _unsync(self) -> None:
        """What goes meanwhile isn't gone before all is known again."""
        unsynced = self.choose(objects.SYNCED)
        self._fold(objects.gone(unsynced))
        alive = [each for each in self.alive.values() if isinstance(each, (facts.Policy, facts.Pod))]
        if alive:
            self._fold(objects.gone(self.choose(alive)))
        self._restore(unsynced)

    def _garble(self, subject: str) -> None:
        known = self.alive.get(subject)
        self._fold(Stored(subject, _NONSENSE, 0))
        if known is not None and self.choose([True, False]):
            self._restore(known)
        else:
            self._restart()
            self.step()
            self._fold(Stored(subject, b"", 0))

    def _forget(self) -> None:
        """PLAN lost a row, as by a purge. (Before everything is known what else it held would stay, and be
        unsafe.)
        """
        kind = self.choose([".group.", ".group.", ".policy.", ".endpoint."])
        some = [subject for subject in self.checker.rows if kind in subject]
        if some and self.resolver.known.complete:
            del self.checker.rows[self.choose(some)]
            self.resolver.replace_plan(self._plan(), self.now_s)
            self.step()

    def _wait(self) -> None:
        self.now_s += self.choose([700.0, 4000.0])
        self.checker._slots.clear()  # an hour may have passed: slots may be used again

    def _restart(self) -> None:
        self.resolver = engine_twins.Twins(cluster_cidrs=SETTING)
        self.resolver.epoch = 1
        self._read()
        self.resolver.replace_plan(self._plan(), self.now_s)

    def _read(self) -> None:
        self.resolver.replace_facts(list(self.facts.values()))
        self.resolver.replace_reports(list(self.reports.values()))

    def _fold(self, message: Stored) -> None:
        self.facts[message.subject] = message
        self.alive.pop(message.subject, None)
        if message.payload and message.payload != _NONSENSE:
            decoded = codec.decode(message.subject, message.payload)
            assert not isinstance(decoded, facts.Gone)
            self.alive[message.subject] = decoded
        self.resolver.fold([message])

    def _plan(self) -> list[Stored]:
        commits = {subjects.commit(scope): codec.encode(c) for scope, c in self.checker.commits.items()}
        writer = {subjects.WRITER: codec.encode(rows.Writer(epoch=1, revision=self.checker.revision))}
        stored = self.checker.rows | commits | dict.fromkeys(self.checker.freed, b"") | writer
        return [Stored(subject, payload, 0) for subject, payload in stored.items()]
