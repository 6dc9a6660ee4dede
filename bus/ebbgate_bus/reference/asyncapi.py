"""AsyncAPI 3.0: channels, messages and who sends what, for tools that make clients and catalogues of it."""

import json
import re
from typing import Any

from ebbgate_bus.contracts import catalog, codec, message, subjects
from ebbgate_bus.reference import schemas

VERSION = "3.0.0"
_PARAMETER = re.compile(r"<([^>]+)>")
Part = dict[str, Any]


def document() -> Part:
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Ebbgate's bus",
            "version": str(message.MAJOR),
            "description": "What Ebbgate's services say to each other on NATS. Whoever listens subscribes to "
            f"`{subjects.LIVE}.>`, where all that is stored is said again, as stored.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"nats": {"host": "ebbgate-nats:4222", "protocol": "nats"}},
        "channels": {entry.kind: _channel(entry) for entry in catalog.ENTRIES},
        "operations": {f"send.{entry.kind}": _operation(entry) for entry in catalog.ENTRIES},
        "components": {
            "messages": {entry.kind: _message(entry) for entry in catalog.ENTRIES},
            "schemas": {name: _rooted(schema) for name, schema in schemas.components().items()},
        },
    }


def _channel(entry: catalog.Entry) -> Part:
    """One that has several subjects is described by the last, the others are named."""
    *others, pattern = entry.pattern.split(", ")
    names = [_token(each) for each in _PARAMETER.findall(pattern)]
    channel: Part = {
        "address": f"{subjects.ROOT}." + _PARAMETER.sub(lambda found: f"{{{_token(found[1])}}}", pattern),
        "description": entry.what + "".join(f"; also {subjects.ROOT}.{each}" for each in others),
        "messages": {entry.kind: {"$ref": f"#/components/messages/{entry.kind}"}},
    }
    described = {name: {"description": "a dot inside it is written _"} for name in names}
    return channel | ({"parameters": described} if described else {})


def _operation(entry: catalog.Entry) -> Part:
    return {
        "action": "send",
        "summary": f"by the {entry.publisher}: {entry.what}",
        "channel": {"$ref": f"#/channels/{entry.kind}"},
    }


def _message(entry: catalog.Entry) -> Part:
    struct = codec.TYPES[entry.kind].__name__
    return {
        "name": entry.kind,
        "summary": entry.what,
        "payload": {"$ref": f"#/components/schemas/{struct}"},
        "examples": [{"name": entry.subject, "payload": json.loads(codec.encode(entry.example))}],
    }


def _token(name: str) -> str:
    """A parameter's name has no blanks."""
    return name.replace(" ", "-")


def _rooted(value: Any) -> Any:
    """References to `$defs` lead to the document's components."""
    match value:
        case {"$ref": str() as reference}:
            return {"$ref": reference.replace("#/$defs/", "#/components/schemas/")}
        case dict():
            return {key: _rooted(each) for key, each in value.items()}
        case list():
            return [_rooted(each) for each in value]
    return value
