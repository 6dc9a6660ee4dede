"""Messages ↔ bytes. Equal messages are equal bytes; what can't be read is named, never guessed.

Dictionaries are written with sorted keys, Structs in field order, so that "did it change" is a comparison of
bytes. `decode` picks the type by subject and checks the major version first.
"""

import functools
from typing import Any, TypeVar

import msgspec

from ebbgate_bus.contracts import facts, reports, rows, subjects
from ebbgate_bus.contracts.message import MAJOR, Message

MessageT = TypeVar("MessageT", bound=Message)

TYPES: dict[str, type[Message]] = {
    "fact.pod": facts.Pod,
    "fact.namespace": facts.Namespace,
    "fact.node": facts.Node,
    "fact.policy": facts.Policy,
    "fact.servicecidr": facts.ServiceCidr,
    "fact.nodenetwork": facts.NodeNetwork,
    "fact.writer": rows.Writer,
    "synced": facts.Synced,
    "plan.set": rows.Routes,
    "plan.group": rows.Group,
    "plan.peer": rows.Peer,
    "plan.cluster": rows.Cluster,
    "plan.endpoint": rows.Endpoint,
    "plan.egress": rows.Egress,
    "plan.commit": rows.Commit,
    "plan.policy": rows.PolicyInForce,
    "plan.writer": rows.Writer,
    "status": reports.Applied,
    "verdict": reports.Verdict,
    "stats": reports.Stats,
    "drop": reports.Dropped,
    "beat": reports.Beat,
}
"""Kind of subject (`subjects.Name.kind`) → what its payload is."""

_encoder = msgspec.json.Encoder(order="deterministic")


class Undecodable(Exception):
    """A payload that isn't what its subject promises. The text says which and why."""


class _Version(msgspec.Struct, gc=False):
    v: int = MAJOR


def encode(message: Message | facts.Gone) -> bytes:
    return b"" if isinstance(message, facts.Gone) else _encoder.encode(message)


def decode(subject: str, payload: bytes) -> Message | facts.Gone:
    """The message stored under `subject` (the stored name, not `live`). Raises Undecodable."""
    name = subjects.parse(subject)
    kind = TYPES.get(name.kind) if name else None
    if kind is None:
        raise Undecodable(f"{subject}: not a subject of version {MAJOR} of this bus")
    if not payload:
        return facts.GONE
    return decode_as(kind, subject, payload)


def decode_as(kind: type[MessageT], subject: str, payload: bytes) -> MessageT:
    """For who knows already what `subject` promises. Raises Undecodable."""
    try:
        message: MessageT = _decoder(kind).decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"{subject}: {_strange_version(payload) or error}") from error
    if message.v != MAJOR:
        raise Undecodable(f"{subject}: {_strange_version(payload)}")
    return message


def _strange_version(payload: bytes) -> str:
    """Says so if it is of another one, which is why it can't be read; else empty."""
    try:
        version = _decoder(_Version).decode(payload).v
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return "" if version == MAJOR else f"major version {version}, and only {MAJOR} is known here"


@functools.cache
def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def sorted_json(value: object) -> bytes:
    """JSON of plain objects with sorted keys: the form in which a policy's spec travels."""
    return _encoder.encode(value)
