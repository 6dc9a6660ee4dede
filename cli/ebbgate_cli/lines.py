"""One readable line for each message of the bus: what `ebbgate tap` prints. Pure."""

import json

import msgspec

from ebbgate_bus.contracts import codec, envelope, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message


def of_message(message: Stored) -> str:
    """`HH:MM:SS.mmm KIND what it is about: what it says`; a message that can't be read says so."""
    subject = subjects.stored(message.subject)
    name = subjects.parse(subject)
    kind = name.kind if name else "unknown"
    about = "/".join(part for part in ((name.node, *name.ids) if name else (subject,)) if part)
    return f"{_clock(message)}  {kind:<16} {about:<40} {_text(subject, message.payload)}".rstrip()


def as_json(message: Stored) -> str:
    """One JSON object on one line: subject, sequence, seen, trace and the payload as it is."""
    subject = subjects.stored(message.subject)
    try:
        payload = json.loads(message.payload) if message.payload else None
    except ValueError:
        payload = message.payload.decode(errors="replace")
    return json.dumps(
        {
            "subject": subject,
            "sequence": message.sequence,
            "time": message.headers.get("Nats-Time-Stamp", ""),
            "seen": message.headers.get(envelope.SEEN, ""),
            "trace": envelope.trace_id(message.headers),
            "payload": payload,
        }
    )


def _clock(message: Stored) -> str:
    """The time of day at which the server stored it, to the millisecond."""
    return message.headers.get("Nats-Time-Stamp", "T").partition("T")[2][:12].ljust(12)


def _text(subject: str, payload: bytes) -> str:
    try:
        decoded = codec.decode(subject, payload)
    except codec.Undecodable as error:
        return f"unreadable: {error}"
    return "gone" if isinstance(decoded, facts.Gone) else _says(decoded)


def _says(message: Message) -> str:
    match message:
        case rows.Commit():
            return f"revision {message.revision}: {message.count} rows, digest {message.digest}"
        case rows.Group():
            return _group(message)
        case reports.Applied():
            return _applied(message)
        case reports.Verdict():
            return ", ".join(f"{c.type}={c.status} ({c.reason})" for c in message.conditions)
        case _:
            return msgspec.json.encode(message).decode()


def _group(group: rows.Group) -> str:
    paths = [path for family in (group.ipv4, group.ipv6) if family for path in family.paths]
    text = ", ".join(f"{path.node} ({path.gateway_ip}) slot {path.slot}" for path in paths) or "no gateway"
    return text + (f"; awaiting {', '.join(group.awaiting)}" if group.awaiting else "")


def _applied(applied: reports.Applied) -> str:
    text = f"revisions {applied.all_revision}/{applied.node_revision} in {applied.took_ms:.1f} ms"
    return text + "".join(f"; {problem.reason}" for problem in applied.problems)
