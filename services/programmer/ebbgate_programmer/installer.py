"""Desired → kernel → Applied: one pass of the programmer over its kernel. Synchronous, in one worker thread.

Reads the kernel, lowers, takes the difference, carries it out, and reads back what then is there. It keeps
what it read last, and reads again only when something may have changed: a plan's change goes from what the
last read-back saw. It must never report what it wanted: only what was read.
"""

import time
from collections.abc import Callable, Collection, Sequence

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_bus.contracts.reports import Problem
from ebbgate_programmer.core import (
    applied,
    changes,
    firewall,
    incremental,
    kernelstate,
    lowering,
    ordering,
    scopes,
    stages,
    touching,
    traffic,
)
from ebbgate_programmer.io import kernel, network, nft, objects, stopwatch, sysctls

Pair = tuple[scopes.Agreed, scopes.Agreed]
Unreadable = (objects.Foreign, objects.Unloadable, nft.Refused, network.Refused, OSError)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`held`: as read back, None if it couldn't be. `changes`: names of those carried out. `lacking`: it
    isn't all as wished. `cpu_s`: of this thread, for all of the pass. `spans`: when what was done.
    """

    interfaces: tuple[facts.Interface, ...] = ()
    held: kernelstate.KernelState | None = None
    changes: tuple[str, ...] = ()
    drifted: bool = False
    lacking: bool = False
    took_ms: float = 0.0
    cpu_s: float = 0.0
    spans: tuple[stages.Span, ...] = ()
    names: traffic.Names = traffic.Names()
    problems: tuple[Problem, ...] = ()


class Installer:
    """`drain`: forgets hints that our own changes made; called between writing and reading back."""

    def __init__(self, made: kernel.Kernel, *, node: str, port: int, drain: Callable[[], object]) -> None:
        self._kernel = made
        self._node, self._port = node, port
        self._drain = drain
        self._chains = firewall.chains(port)
        self._interfaces: tuple[facts.Interface, ...] = ()
        self._environment: lowering.Environment | None = None
        self._lowering = incremental.Lowering(node)
        self._held: kernelstate.KernelState | None = None
        self._settled: kernelstate.KernelState | None = None
        self._started = False
        self._watch = stopwatch.Stopwatch()

    def step(self, agreed: Pair | None, *, fresh: bool) -> Outcome:
        """One pass. `fresh`: something in the kernel may have changed since it was read last."""
        began_s = time.thread_time()
        outcome = self._step(agreed, fresh=fresh)
        cpu_s, spans = time.thread_time() - began_s, self._watch.take()
        return msgspec.structs.replace(outcome, cpu_s=cpu_s, spans=spans)

    def _step(self, agreed: Pair | None, *, fresh: bool) -> Outcome:
        began = time.monotonic()
        try:
            if fresh or self._environment is None:
                with self._watch.timed(stages.Stage.READ):
                    self._interfaces = self._kernel.interfaces()
                    self._environment = self._kernel.environment(self._node, self._port)
            if agreed is None:
                return Outcome(interfaces=self._interfaces)
            return self._bring(agreed, self._environment, began, fresh=fresh)
        except Unreadable as error:
            self._held = None
            problem = Problem(reason=str(error))
            return Outcome(interfaces=self._interfaces, lacking=True, problems=(problem,))

    def _bring(
        self, agreed: Pair, environment: lowering.Environment, began: float, *, fresh: bool
    ) -> Outcome:
        with self._watch.timed(stages.Stage.LOWER):
            lowered = self._lowering.lower(agreed, environment)
        if fresh or self._held is None or self._held.sysctls.keys() != lowered.state.sysctls.keys():
            with self._watch.timed(stages.Stage.READ):
                self._held = self._kernel.read(lowered.state.sysctls, lowered.state)
        with self._watch.timed(stages.Stage.DIFF):
            todo = ordering.diff(lowered.state, self._held, self._chains)
        drifted = bool(todo) and lowered.state == self._settled
        stale = () if self._started else (changes.ForgetStale(tuple(lowered.state.covered), lowered.state),)
        problems = [
            *lowered.problems,
            *self._carry_out((*todo, *stale), lowered),
            *_forwarding(lowered.families),
        ]
        self._started = True
        took_ms = (time.monotonic() - began) * 1000
        if todo:
            with self._watch.timed(stages.Stage.READ_BACK):
                self._held = self._read_back(self._held, todo, problems, lowered)
        lacking = ordering.diff(lowered.state, self._held, self._chains) if todo else todo
        self._settled = None if lacking else lowered.state
        if lacking and len(problems) == len(lowered.problems):
            problems.append(Problem(reason=f"not as written: {', '.join(changes.names(lacking))}"))
        return Outcome(
            interfaces=self._interfaces,
            held=self._held,
            changes=tuple(changes.names(todo)),
            drifted=drifted,
            lacking=bool(lacking),
            took_ms=round(took_ms, 3),
            names=lowered.names,
            problems=tuple(problems),
        )

    def _read_back(
        self,
        before: kernelstate.KernelState,
        done: Sequence[changes.Change],
        problems: Sequence[Problem],
        lowered: lowering.Lowered,
    ) -> kernelstate.KernelState:
        """What is there after `done`: all of it, if anything was refused, as any part may be half done."""
        touched = None if len(problems) > len(lowered.problems) else touching.touched(done)
        if touched is not None:
            # Hints stay: one may tell of another's change, which a part wouldn't show.
            return self._kernel.read_parts(before, touched, lowered.state)
        self._drain()
        return self._kernel.read(lowered.state.sysctls, lowered.state)

    def _carry_out(self, todo: Sequence[changes.Change], lowered: lowering.Lowered) -> list[Problem]:
        """What the kernel refused. What isn't safe after a refusal waits for the next pass; until then new
        pods are dropped.
        """
        problems: list[Problem] = []
        rest = list(todo)
        while rest:
            change, *rest = rest
            try:
                with self._watch.timed(stages.of(change)):
                    refusals = self._kernel.apply(change)
            except kernel.Refused as error:
                problems.append(Problem(reason=str(error)))
                if not changes.may_go_on(change):
                    rest = changes.covering(rest)
                continue
            if refusals and isinstance(change, changes.Put):
                rest = changes.hold_back(rest, change, refusals)
                problems += [
                    applied.refusal(self._node, lowered.names.policies, key, reason)
                    for key, reason in refusals
                ]
        return problems


def _forwarding(families: Collection[str]) -> list[Problem]:
    return [
        Problem(reason=f"{path.replace('/', '.')} is off: this node forwards no {family} for anyone")
        for family, path in sysctls.FORWARDING.items()
        if family in families and sysctls.read(path) != "1"
    ]
