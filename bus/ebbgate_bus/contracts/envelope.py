"""What travels around a payload: headers, as names and as values.

Time seen, resourceVersion and trace context are headers, so that equal objects are equal payloads. All are
ASCII text. A trace begins where an event was first seen and every message that follows from it continues it.
"""

import msgspec

SEEN = "Ebbgate-Seen"
"""When the event behind a message was first seen, in integer nanoseconds since 1970."""
RESOURCE_VERSION = "Ebbgate-Resource-Version"
TRACEPARENT = "traceparent"
"""W3C trace context: 00-<32 hex trace id>-<16 hex span id>-<2 hex flags>."""
TTL = "Nats-TTL"


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message to be published."""

    subject: str
    payload: bytes
    headers: dict[str, str] = {}


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A message as its stream holds it. `sequence`: the stream's."""

    subject: str
    payload: bytes
    sequence: int
    headers: dict[str, str] = {}


def traceparent(trace_id: str, span_id: str) -> str:
    """Of a trace that is sampled. `trace_id`: 32 hex digits, `span_id`: 16."""
    return f"00-{trace_id}-{span_id}-01"


def trace_id(headers: dict[str, str]) -> str:
    """The trace that a message belongs to, or empty if its header is absent or malformed."""
    parts = headers.get(TRACEPARENT, "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""
