"""docs/bus.md: the bus as an API. What can be worked out from the contracts is; the rest is said here."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from ebbgate_bus.contracts import catalog, codec, message, rows, streams, subjects
from ebbgate_bus.reference import headers, schemas

_HERE = pathlib.Path(__file__).parent


def text() -> str:
    """`head.md` and `rules.md` stand beside this module."""
    head, rules = ((_HERE / name).read_text().rstrip() for name in ("head.md", "rules.md"))
    return (
        "\n".join([head, "", *headers.table(), "", *_subjects(), "", *_streams(), "", rules, *_messages()])
        + "\n"
    )


def _subjects() -> Iterator[str]:
    yield "## Subjects"
    yield ""
    yield f"All begin with `{subjects.ROOT}.`; a dot inside a name is written `_`."
    yield ""
    yield "| subject | who | what | stream |"
    yield "|---|---|---|---|"
    for entry in catalog.ENTRIES:
        patterns = ", ".join(f"`{each}`" for each in entry.pattern.split(", "))
        kept = streams.of(entry.subject)
        linked = f"[{entry.what}](#{_anchor(entry.kind)})"
        yield f"| {patterns} | {entry.publisher} | {linked} | {kept.name if kept else 'none'} |"


def _streams() -> Iterator[str]:
    yield "## Streams"
    yield ""
    yield "| stream | subjects | keeps |"
    yield "|---|---|---|"
    for stream in streams.STREAMS:
        patterns = ", ".join(f"`{each}`" for each in stream.subjects)
        yield f"| {stream.name} | {patterns} | {_KEEPS[stream in streams.STATE]} |"


def _messages() -> Iterator[str]:
    for entry in catalog.ENTRIES:
        struct = codec.TYPES[entry.kind].__name__
        schema = schemas.components()[struct]
        yield ""
        yield f"### {entry.kind}"
        yield ""
        yield f"{schema['description'] or entry.what}"
        yield ""
        yield f"`{entry.subject}` ([schema](bus/{entry.kind}.schema.json)):"
        yield ""
        yield "```json"
        yield _pretty(entry.example)
        yield "```"
        yield ""
        yield from _fields(schema)


def _pretty(example: message.Message) -> str:
    """Long lists are cut: sixty-four buckets say no more than one."""
    encoded = codec.encode(example).decode()
    buckets = json.dumps([0] * rows.BUCKETS, separators=(",", ":"))
    cut = "[0, 0, …]"
    return json.dumps(json.loads(encoded.replace(buckets, json.dumps(cut))), ensure_ascii=False).replace(
        json.dumps(cut, ensure_ascii=False), cut
    )


def _fields(schema: schemas.Schema) -> Iterator[str]:
    yield "| field | type | |"
    yield "|---|---|---|"
    for name, field in schema.get("properties", {}).items():
        if name != "v":
            required = name in schema.get("required", ())
            yield f"| `{name}` | {_type(field)}{'' if required else ', optional'} | {_words(field)} |"


def _words(field: schemas.Schema) -> str:
    return str(field.get("description", "")).replace("|", "\\|")


def _type(field: dict[str, Any]) -> str:
    match field:
        case {"$ref": str() as reference}:
            return reference.rpartition("/")[2]
        case {"anyOf": options}:
            return " or ".join(each for each in map(_type, options) if each != "null")
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": dict() as values}:
            return f"object of {_type(values)}"
        case {"type": str() as kind}:
            return kind
    return "JSON"


_KEEPS = {
    True: "the last message of each subject, for ever",
    False: f"all of them, for {streams.JOURNAL_S // 60} minutes and up to {streams.JOURNAL_BYTES >> 20} MiB",
}


def _anchor(kind: str) -> str:
    return kind.replace(".", "")
