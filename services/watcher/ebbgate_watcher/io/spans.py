"""Traces as they begin: each fact's, from the bytes that brought it to its place on the bus.

receive pod                     the event: all of it
  normalise pod                 its bytes become a fact
  send ebbgate.v1.fact.pod      stored and acknowledged; the resolver goes on from here
"""

import time
from collections.abc import Sequence

from ebbgate_bus.contracts import envelope, subjects, trace
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import tracing
from ebbgate_watcher.io import tally

SAMPLED_MAX = 64
"""Traces of one batch that are recorded: a relist of 150,000 pods tells nothing that these don't."""


class Facts:
    """`messages`: as they are to be published, each in a trace of its own."""

    def __init__(self, messages: Sequence[Outgoing], counts: tally.Tally) -> None:
        self._counts = counts
        self._began_ns = time.time_ns()
        self._roots: dict[str, trace.Context] = {}
        self.messages = [self._begin(message) for message in messages]

    def _begin(self, message: Outgoing) -> Outgoing:
        send = root = tracing.root()
        if tracing.recorded(root):
            if len(self._roots) < SAMPLED_MAX:
                self._roots[message.subject] = root
                send = tracing.child(root)
            else:
                send = trace.Context(root.trace, root.span)
        return Outgoing(message.subject, message.payload, message.headers | trace.headers(send))

    def stored(self, messages: Sequence[Outgoing]) -> None:
        """These are acknowledged now."""
        for message in messages if self._roots else ():
            if root := self._roots.get(message.subject):
                self._record(message, root)

    def _record(self, message: Outgoing, root: trace.Context) -> None:
        name, now_ns = subjects.parse(message.subject), time.time_ns()
        kind = name.kind if name else message.subject
        seen_ns = int(message.headers.get(envelope.SEEN, self._began_ns))
        what = kind.removeprefix("fact.")
        about: dict[str, str | bool] = {
            "ebbgate.object": "/".join(name.ids if name else ()),
            "ebbgate.gone": not message.payload,
        }
        if version := message.headers.get(envelope.RESOURCE_VERSION):
            about["k8s.resource_version"] = version
        tracing.record(
            tracing.Span(
                name=f"receive {what}", context=root, began_ns=seen_ns, ended_ns=now_ns, attributes=about
            )
        )
        if (normalised_ns := self._counts.normalised_ns(seen_ns)) > seen_ns:
            tracing.record_part(root, f"normalise {what}", (seen_ns, normalised_ns))
        send = trace.of(message.headers)
        assert send is not None
        template = f"{subjects.ROOT}.{kind}"
        tracing.record(
            tracing.Span(
                name=f"send {template}",
                context=send,
                parent=root.span,
                kind=tracing.PRODUCER,
                began_ns=self._began_ns,
                ended_ns=now_ns,
                attributes=tracing.sending(message.subject, template=template),
            )
        )


class Statuses:
    """A Verdict on its way into a policy's status: the end of the walk.

    PATCH policy status     child of the span that sent the Verdict
    """

    def __init__(self) -> None:
        self._contexts: dict[str, trace.Context] = {}

    def hear(self, message: envelope.Stored) -> None:
        """A Verdict, of a policy that may be gone."""
        name, context = subjects.parse(message.subject), trace.of(message.headers)
        if name is None or context is None:
            return
        if message.payload and tracing.recorded(context):
            self._contexts[name.ids[0]] = context
        else:
            self._contexts.pop(name.ids[0], None)

    def written(self, policy: str, began_ns: int, code: int) -> None:
        """The API server has answered `code`; the first answer to a Verdict is the one that is told."""
        if (parent := self._contexts.pop(policy, None)) is None:
            return
        tracing.record(
            tracing.Span(
                name="PATCH policy status",
                context=tracing.child(parent),
                parent=parent.span,
                kind=tracing.CLIENT,
                began_ns=began_ns,
                ended_ns=time.time_ns(),
                attributes={
                    "http.request.method": "PATCH",
                    "http.response.status_code": code,
                    "ebbgate.policy": policy,
                },
                error="" if code < 400 else f"HTTP {code}",
            )
        )
