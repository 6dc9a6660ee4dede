"""One readable line for each message of the bus: when, what it is about, what changed, and why. Pure."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.text import Text

from ebbgate_bus.contracts import codec, envelope, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from ebbgate_cli import happenings, live
from ebbgate_cli.happenings import Happening

_COLOURS = {"fact": "cyan", "plan": "blue", "status": "green", "verdict": "magenta"}
_VALUE_MAX = 60
"""Characters of a value in a line; `-o json` has all of it."""


def of_happening(happening: Happening) -> Text:
    """`HH:MM:SS.mmm  KIND  WHOM  what it says  ← what began it`."""
    kind = happening.name.kind if happening.name else "unknown"
    line = Text.assemble((f"{_clock(happening.message)}  ", "dim"))
    line.append(f"{kind:<16} ", style=_COLOURS.get(kind.partition(".")[0], "default"))
    line.append(f"{_about(happening.name) or happening.subject:<28} ", style="bold")
    line.append(_text(happening), style="red" if happening.trouble else "default")
    if happening.cause:
        line.append(f"  ← {named(happening.cause)}", style="dim")
    line.rstrip()
    return line


def as_json(happening: Happening) -> str:
    """One JSON object on one line."""
    message = happening.message
    return json.dumps(
        {
            "subject": happening.subject,
            "sequence": message.sequence,
            "time": message.headers.get(live.STORED_AT, ""),
            "seen": message.headers.get(envelope.SEEN, ""),
            "trace": envelope.trace_id(message.headers),
            "cause": happening.cause,
            "changes": {
                field: {"before": before, "now": now}
                for field, (before, now) in happenings.changes(happening).items()
            },
            "payload": _payload(message.payload),
        }
    )


def _payload(payload: bytes) -> object:
    try:
        return json.loads(payload) if payload else None
    except ValueError:
        return payload.decode(errors="replace")


def _clock(message: Stored) -> str:
    """The time of day at which the server stored it, to the millisecond, in UTC."""
    return message.headers.get(live.STORED_AT, "T").partition("T")[2][:12].ljust(12)


def _about(name: subjects.Name | None) -> str:
    return "/".join(part for part in ((name.node, *name.ids) if name else ()) if part)


def named(subject: str) -> str:
    """`pod default/a`: whom a message of `subject` is about."""
    name = subjects.parse(subject)
    return f"{name.kind.removeprefix('fact.')} {_about(name)}" if name else subject


def few(names: Sequence[str], most: int) -> str:
    """In a sentence; what is more is counted."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _text(happening: Happening) -> str:
    if happening.now is None:
        return f"unreadable: {happening.trouble}"
    if isinstance(happening.now, facts.Gone):
        return "gone"
    if isinstance(happening.now, reports.Verdict) and isinstance(happening.before, reports.Verdict):
        return _turned(happening.before, happening.now)
    if not isinstance(happening.now, _SAYS_ALL) and (changed := happenings.changes(happening)):
        return ", ".join(
            f"{field}: {_value(before)} → {_value(now)}" for field, (before, now) in changed.items()
        )
    return _says(happening.now)


_SAYS_ALL = (rows.Commit, rows.Writer, rows.Group, reports.Applied, reports.Verdict)
"""A line of these says more than their fields would."""


def _value(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_MAX else f"{text[: _VALUE_MAX - 1]}…"


def _says(message: Message) -> str:
    match message:
        case rows.Commit():
            return f"revision {message.revision}: {message.count} rows, digest {message.digest}"
        case rows.Writer():
            return f"epoch {message.epoch}, revision {message.revision}"
        case rows.Group():
            return _group(message)
        case reports.Applied():
            return _applied(message)
        case reports.Verdict():
            return ", ".join(f"{each.type} {_condition(each)}" for each in message.conditions)
    return _fields(message)


def _fields(message: Message) -> str:
    """Those that aren't empty."""
    plain = msgspec.json.decode(codec.encode(message))
    return " ".join(f"{field}={_value(value)}" for field, value in plain.items() if value not in ("", [], {}))


def _group(group: rows.Group) -> str:
    paths = [path for family in (group.ipv4, group.ipv6) if family for path in family.paths]
    text = ", ".join(f"{path.node} ({path.gateway_ip}) slot {path.slot}" for path in paths) or "no gateway"
    return f"policy {group.policy}: {text}" + (
        f"; awaiting {', '.join(group.awaiting)}" if group.awaiting else ""
    )


def _turned(before: reports.Verdict, now: reports.Verdict) -> str:
    """The conditions that changed, or what else did."""
    old = {each.type: each for each in before.conditions}
    turned = [_turn(old.get(each.type), each) for each in now.conditions if old.get(each.type) != each]
    programmed = f"{len(now.nodes_programmed)} of {len(now.nodes_wanted)} nodes"
    return ", ".join(turned) or f"generation {now.generation}, {now.pods} pods, {programmed}"


def _turn(before: reports.Condition | None, now: reports.Condition) -> str:
    if before is None:
        return f"{now.type} {_condition(now)}"
    if (before.status, before.reason) == (now.status, now.reason):
        return f"{now.type}: {now.message}"
    return f"{now.type} {_condition(before)} → {_condition(now)}"


def _condition(of: reports.Condition) -> str:
    return f"{of.status} ({of.reason})"


def _applied(applied: reports.Applied) -> str:
    text = f"revisions {applied.all_revision}/{applied.node_revision} in {applied.took_ms:.1f} ms"
    return text + "".join(f"; {problem.reason}" for problem in applied.problems)
