"""One turn of the resolver as a part of the trace that it goes on with, told on the bus and as spans.

    process ebbgate.v1.fact      child of the span that sent the fact (or status); links: what was folded too
      fold, resolve              the engine's work
      send ebbgate.v1.plan       rows and Commits; programmers go on from here
      send ebbgate.v1.verdict    Verdicts; the watcher goes on from here

Commits and Verdicts say the same in a header, for those who have nothing but the bus.
"""

import time
from collections.abc import Sequence

import msgspec

from ebbgate_bus.contracts import subjects, trace
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import tracing
from ebbgate_resolver.core import causes, engine

_PLAN, _VERDICT = f"{subjects.ROOT}.plan", f"{subjects.ROOT}.verdict"


class Turn:
    """`folding`: when what is new was folded, from and to; None if nothing was."""

    def __init__(self, cause: causes.Cause, folding: tuple[int, int] | None) -> None:
        self._cause = cause
        self._folding = folding
        self._turn = tracing.child(cause.context)
        self._plan, self._verdict = tracing.child(self._turn), tracing.child(self._turn)
        self._began_ns = time.time_ns()
        self._resolved_ns = self._stored_ns = 0
        self._published = False

    @property
    def traceparent(self) -> str:
        """Of what is stored in PLAN."""
        return trace.text(self._plan)

    @property
    def trace_id(self) -> str:
        return self._turn.trace

    @property
    def resolving_s(self) -> float:
        return (self._resolved_ns - self._began_ns) / 1e9

    def told(self, step: engine.Step) -> engine.Step:
        """`step`, just made: its Commits and Verdicts say what work went before."""
        self._resolved_ns = time.time_ns()
        if not (step.batches or step.verdicts):
            return step
        work = self._work(sum(map(len, step.batches)) + len(step.verdicts))
        of_plan, of_verdict = trace.headers(self._plan, work), trace.headers(self._verdict, work)
        return msgspec.structs.replace(
            step,
            batches=tuple(
                tuple(_with(each, of_plan) if _ends_something(each) else each for each in batch)
                for batch in step.batches
            ),
            verdicts=tuple(_with(each, of_verdict) for each in step.verdicts),
        )

    def _work(self, messages: int) -> trace.Work:
        took_ms = {"resolve": _ms(self._began_ns, self._resolved_ns)}
        if self._folding:
            took_ms = {"fold": _ms(*self._folding)} | took_ms
        parent = self._cause.context.span if self._cause.context else ""
        return trace.Work(parent, self._first_ns, took_ms, self._cause.links, messages)

    @property
    def _first_ns(self) -> int:
        return self._folding[0] if self._folding else self._began_ns

    def stored(self, batches: Sequence[Sequence[Outgoing]]) -> None:
        self._stored_ns = time.time_ns()
        self._published = bool(batches)
        if batches and tracing.recorded(self._plan):
            messages = sum(map(len, batches))
            self._record_send(self._plan, _PLAN, messages, (self._resolved_ns, self._stored_ns))

    def ended(self, verdicts: Sequence[Outgoing]) -> None:
        """All is published. What follows from no event, and to nothing, is no work that anybody looks for."""
        if not tracing.recorded(self._turn) or not (self._cause.context or self._published or verdicts):
            return
        now_ns = time.time_ns()
        if verdicts:
            self._record_send(self._verdict, _VERDICT, len(verdicts), (self._stored_ns, now_ns))
        stages = {"fold": self._folding, "resolve": (self._began_ns, self._resolved_ns)}
        for name, when in stages.items():
            if when:
                tracing.record_part(self._turn, name, when)
        self._record_turn(now_ns)

    def _record_turn(self, now_ns: int) -> None:
        parent = self._cause.context
        name = subjects.parse(self._cause.subject)
        template = f"{subjects.ROOT}.{name.kind}" if name else "time"
        attributes = tracing.processing(
            self._cause.subject, messages=max(1, self._cause.events), template=template
        )
        tracing.record(
            tracing.Span(
                name=f"process {template}",
                context=self._turn,
                parent=parent.span if parent else "",
                kind=tracing.CONSUMER,
                began_ns=self._first_ns,
                ended_ns=now_ns,
                attributes=attributes if name else {},
                links=tuple(filter(None, map(trace.parse, self._cause.links))),
            )
        )

    def _record_send(self, context: trace.Context, to: str, messages: int, when: tuple[int, int]) -> None:
        tracing.record(
            tracing.Span(
                name=f"send {to}",
                context=context,
                parent=self._turn.span,
                kind=tracing.PRODUCER,
                began_ns=when[0],
                ended_ns=when[1],
                attributes=tracing.sending(to, messages=messages),
            )
        )


def _ends_something(message: Outgoing) -> bool:
    """A Commit, or the writer."""
    return message.subject.endswith((".commit", subjects.WRITER))


def _with(message: Outgoing, headers: dict[str, str]) -> Outgoing:
    return Outgoing(message.subject, message.payload, message.headers | headers)


def _ms(began_ns: int, ended_ns: int) -> float:
    return round((ended_ns - began_ns) / 1e6, 3)
