"""Headers of messages: for the table in docs/bus.md and for the AsyncAPI document."""

from collections.abc import Iterator
from typing import Any

from ebbgate_bus.contracts import envelope, trace

OURS = {
    envelope.TRACEPARENT: "W3C trace context: which event caused it; all that follows from one event has one "
    "trace id",
    envelope.SEEN: "when that event was first seen, in nanoseconds since 1970",
    trace.WORK: "on Commits, Applied and Verdicts, as JSON: `parent` (the span that sent what it follows "
    "from), `began_ns`, `took_ms` by stage, `links` (traces folded together with it), `messages`",
    envelope.RESOURCE_VERSION: "of the object in Kubernetes, on facts",
    envelope.TTL: "on a tombstone: how long it can be read",
}
"""By whoever says it."""
REPUBLISHED = {
    "Nats-Stream": "the stream that it is stored in, on `live`",
    "Nats-Subject": "where it was said, on `live`: its subject without `live`",
    "Nats-Sequence": "its number in the stream, on `live`",
    "Nats-Time-Stamp": "when it was stored, on `live`",
}
"""By the server, on all that it says again."""
SOURCED = {"Nats-Stream-Source": "in JOURNAL: the stream it was taken from, and its sequence there"}


def table() -> Iterator[str]:
    yield "| header | |"
    yield "|---|---|"
    for name, meaning in (OURS | REPUBLISHED | SOURCED).items():
        yield f"| `{name}` | {meaning} |"


def schema(*, live: bool) -> dict[str, Any]:
    """JSON Schema of the headers of one message. There may be others."""
    named = OURS | REPUBLISHED if live else OURS
    properties = {name: {"type": "string", "description": meaning} for name, meaning in named.items()}
    return {"type": "object", "properties": properties} | ({"required": [*REPUBLISHED]} if live else {})
