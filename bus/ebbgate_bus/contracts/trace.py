"""Where a message stands in its trace, as its headers say: W3C trace context, and what work made it.

Every message has a context: the event that began it all, and the span that sent this one. Commits, Applied
and Verdicts also say what work went before: from which span it followed, when it began, and how long its
stages took. So a trace can be told from the bus alone, whether anybody collects spans or not.
"""

import re
from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import envelope

WORK = "Ebbgate-Work"
"""JSON of a Work."""
MAX_LINKS = 16
"""Events folded together with the one that is continued, by their traceparents; more say nothing more."""

_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


class Context(msgspec.Struct, frozen=True, gc=False):
    """`trace`: 32 hex digits, `span`: 16. `sampled`: who began the trace wants spans to be recorded."""

    trace: str
    span: str
    sampled: bool = False


class Work(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`parent`: the span that sent what it followed from. `began_ns`: since 1970. `took_ms`: by stage, in the
    order in which they began. `links`: traceparents of what was folded together with it. `messages`: how many
    it published.
    """

    parent: str = ""
    began_ns: int = 0
    took_ms: dict[str, float] = {}
    links: tuple[str, ...] = ()
    messages: int = 1


def parse(traceparent: str) -> Context | None:
    """None for what is none, or of an invalid id (all zeros). Later versions are read as this one, as W3C
    wants.
    """
    found = _PARENT.fullmatch(traceparent)
    if found is None or traceparent.startswith("ff") or not int(found[1], 16) or not int(found[2], 16):
        return None
    return Context(found[1], found[2], bool(int(found[3], 16) & 1))


def of(headers: Mapping[str, str]) -> Context | None:
    return parse(headers.get(envelope.TRACEPARENT, ""))


def text(context: Context) -> str:
    return f"00-{context.trace}-{context.span}-{'01' if context.sampled else '00'}"


def headers(context: Context, work: Work | None = None) -> dict[str, str]:
    found = {envelope.TRACEPARENT: text(context)}
    if work is not None:
        found[WORK] = _encoder.encode(work).decode()
    return found


def work(headers: Mapping[str, str]) -> Work | None:
    """None if there is none, or none that this version can read."""
    try:
        return _decoder.decode(headers.get(WORK, ""))
    except msgspec.DecodeError:
        return None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Work)
