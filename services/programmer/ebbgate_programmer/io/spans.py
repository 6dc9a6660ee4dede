"""One pass over the kernel as a part of the trace that it goes on with, told on the bus and as spans.

    process ebbgate.v1.plan       child of the span that stored the Commit; links: the other scope's, if new
      lower, read, diff           what is wanted, what is there, and what is to be done about it
      bpf, nft, netlink, …        changes, each stage of neighbours a span
      read back
      send ebbgate.v1.status      the Applied, acknowledged; the resolver goes on from here

A pass that no Commit asked for (drift, another try) begins a trace of its own.
"""

import time
from collections.abc import Sequence

from ebbgate_bus.contracts import envelope, subjects, trace
from ebbgate_bus.contracts.reports import Applied
from ebbgate_bus.runtime import tracing
from ebbgate_programmer.core import scopes, stages

_PLAN = f"{subjects.ROOT}.plan"


class Pass:
    """`news`: scopes of which the Commit is new, the newest first. `done`: what took its time."""

    def __init__(self, news: Sequence[scopes.Agreed], done: tuple[stages.Span, ...]) -> None:
        self._contexts = [context for each in news if (context := trace.of(each.headers))]
        self._parent = self._contexts[0] if self._contexts else None
        self._asked_for = bool(news)
        self._done = done
        self._pass = tracing.child(self._parent)
        self._send = tracing.child(self._pass)

    @property
    def trace_id(self) -> str:
        return self._pass.trace

    @property
    def span_id(self) -> str:
        return self._pass.span

    def headers(self) -> dict[str, str]:
        """Of the Applied."""
        began_ns = self._done[0].began_ns if self._done else time.time_ns()
        parent = self._parent.span if self._parent else ""
        links = tuple(map(trace.text, self._links))
        work = trace.Work(parent, began_ns, stages.took_ms(self._done), links)
        return trace.headers(self._send, work)

    @property
    def _links(self) -> list[trace.Context]:
        return [each for each in self._contexts[1:] if each.trace != self._pass.trace]

    def record(self, applied: Applied, changes: Sequence[str]) -> None:
        """The pass is over; what follows is only the report."""
        if not (self._done and tracing.recorded(self._pass)):
            return
        for span in self._done:
            tracing.record_part(self._pass, span.stage.value, (span.began_ns, span.ended_ns))
        about: tracing.Attributes = {
            "ebbgate.node": applied.node,
            "ebbgate.revision.all": applied.all_revision,
            "ebbgate.revision.node": applied.node_revision,
            "ebbgate.changes": len(changes),
            "ebbgate.problems": len(applied.problems),
        }
        name, messaging = f"process {_PLAN}", tracing.processing(_PLAN)
        tracing.record(
            tracing.Span(
                name=name if self._asked_for else "repair",
                context=self._pass,
                parent=self._parent.span if self._parent else "",
                kind=tracing.CONSUMER if self._asked_for else tracing.INTERNAL,
                began_ns=self._done[0].began_ns,
                ended_ns=self._done[-1].ended_ns,
                attributes={**(messaging if self._asked_for else {}), **about},
                links=tuple(self._links),
                error=applied.problems[0].reason if applied.problems else "",
            )
        )


def record_send(message: envelope.Outgoing, parent: str, began_ns: int) -> None:
    """`message` is acknowledged now. `parent`: the pass's span."""
    context, name = trace.of(message.headers), subjects.parse(message.subject)
    if context is None or name is None or not tracing.recorded(context):
        return
    template = f"{subjects.ROOT}.{name.kind}"
    tracing.record(
        tracing.Span(
            name=f"send {template}",
            context=context,
            parent=parent,
            kind=tracing.PRODUCER,
            began_ns=began_ns,
            ended_ns=time.time_ns(),
            attributes=tracing.sending(message.subject, template=template),
        )
    )
