"""Any history: safe revisions on the way, rows that follow from the facts at its end, silence after it.

Every step is made by the engine and by the plain one beside it, and must be the same.
"""

import hypothesis
from hypothesis import strategies as st

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_resolver.core import listing
from tests.properties import engine_twins
from tests.properties import resolver_histories as histories
from tests.scenarios import safety
from tests.unit import resolver_objects as objects

MOVES = st.lists(
    st.one_of(
        histories.messages(),
        st.sampled_from(histories.NODES),  # this node's programmer reports
        st.sampled_from(["step", "restart", "lose a step"]),
    ),
    max_size=25,
)


class World:
    """A resolver, the streams that outlive it, and programmers that report when they are told to."""

    def __init__(self) -> None:
        self.checker = safety.Safety()
        ground = map(objects.stored, (*objects.SYNCED, *histories.ground()))
        self.facts = {message.subject: message for message in ground}
        self.reports: dict[str, Stored] = {}
        self.now_s = 0.0
        self.restart()

    def restart(self) -> None:
        self.resolver = engine_twins.Twins()
        self.resolver.epoch = 1
        self.resolver.replace_facts(list(self.facts.values()))
        self.resolver.replace_reports(list(self.reports.values()))
        self.resolver.replace_plan(self.plan(), self.now_s)

    def plan(self) -> list[Stored]:
        commits = {subjects.commit(scope): codec.encode(c) for scope, c in self.checker.commits.items()}
        stored = self.checker.rows | commits | dict.fromkeys(self.checker.freed, b"")
        writer = codec.encode(rows.Writer(epoch=1, revision=self.checker.revision))
        return [
            Stored(subject, payload, 0) for subject, payload in (stored | {subjects.WRITER: writer}).items()
        ]

    def fold(self, message: Stored) -> None:
        self.facts[message.subject] = message
        self.resolver.fold([message])

    def report(self, node: str) -> None:
        message = histories.report(self.checker.rows, node, self.checker.revision)
        self.reports[message.subject] = message
        self.resolver.fold([message])

    def step(self) -> bool:
        """Whether anything was written."""
        self.now_s += 1.0
        made = self.resolver.step(self.now_s)
        self.checker.take(made.batches)
        for message in made.verdicts:
            self.reports[message.subject] = Stored(message.subject, message.payload, 0)
        self.resolver.stored(made)
        assert self.resolver.live_rows == self.checker.rows
        return bool(made.batches or made.verdicts)

    def settle(self) -> None:
        for _ in range(20):
            for node in histories.NODES:
                self.report(node)
            if not self.step():
                return
        raise AssertionError("the rows never settle")

    def play(self, moves: list[Stored | str]) -> None:
        for move in moves:
            match move:
                case Stored():
                    self.fold(move)
                case "step":
                    self.step()
                case "lose a step":  # nothing was stored; the shell reads PLAN again
                    self.resolver.step(self.now_s)
                    self.resolver.replace_plan(self.plan(), self.now_s)
                case "restart":
                    self.restart()
                case node:
                    self.report(node)


@hypothesis.given(MOVES)
def test_any_history_is_safe_settles_and_then_is_silent(moves: list[Stored | str]) -> None:
    world = World()
    world.play(moves)
    world.settle()
    assert not world.step()
    world.restart()
    assert not world.step()


@hypothesis.given(
    st.lists(histories.strategy(histories.anything), max_size=12), st.randoms(use_true_random=False)
)
def test_rows_do_not_depend_on_the_order_of_arrival(made: list[object], random: object) -> None:
    latest = {message.subject: message for message in map(objects.stored, made)}  # type: ignore[arg-type]
    forwards, shuffled = World(), World()
    order = list(latest.values())
    for message in order:
        forwards.fold(message)
    random.shuffle(order)  # type: ignore[attr-defined]
    for message in order:
        shuffled.fold(message)
        shuffled.fold(message)
    forwards.settle()
    shuffled.settle()
    assert forwards.checker.rows == shuffled.checker.rows


@hypothesis.given(st.lists(histories.messages(), max_size=20))
def test_a_history_ends_as_if_only_its_end_had_been_seen(moves: list[Stored]) -> None:
    """But for slots, which are numbers with a history, and for last good versions."""
    hypothesis.assume(not any(b"nonsense" in move.payload for move in moves))
    told, end = World(), World()
    for move in moves:
        told.fold(move)
        told.settle()
    for message in told.facts.values():
        end.fold(message)
    end.settle()
    for node in (None, *histories.NODES):
        assert listing.entries(told.checker.rows, node) == listing.entries(end.checker.rows, node)
