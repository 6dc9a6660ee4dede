"""AsyncAPI 3.0: channels, messages, who sends what and what a reader may hear, for tools that make clients
and catalogues of it.
"""

import json
import re
from typing import Any

from ebbgate_bus.contracts import catalog, codec, message, permissions, streams, subjects
from ebbgate_bus.reference import headers, schemas

VERSION = "3.0.0"
_PARAMETER = re.compile(r"<([^>]+)>")
Part = dict[str, Any]


def document() -> Part:
    spoken = {entry.kind: entry for entry in catalog.ENTRIES}
    heard = {_heard(entry): entry for entry in catalog.ENTRIES}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Ebbgate's bus",
            "version": str(message.MAJOR),
            "description": "What Ebbgate's services say to each other on NATS (operations that send), and "
            f"what a reader hears of it (those that receive): under `{subjects.LIVE}.>`, where all that is "
            "stored is said again, as stored; and of what isn't stored, where it is said. An empty payload "
            "says that the object, or the row, is gone.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"nats": _server()},
        "channels": {name: _channel(name, entry) for name, entry in (spoken | heard).items()},
        "operations": {f"send.{kind}": _sent(entry) for kind, entry in spoken.items()}
        | {f"receive.{entry.kind}": _received(name, entry) for name, entry in heard.items()},
        "components": {
            "securitySchemes": _SECURITY,
            "messages": {name: _message(name, entry) for name, entry in (spoken | heard).items()},
            "schemas": {name: _rooted(schema) for name, schema in schemas.components().items()}
            | {_headers(live): headers.schema(live=live) for live in (False, True)},
        },
    }


def _heard(entry: catalog.Entry) -> str:
    """The channel on which readers hear of it."""
    return f"{_LIVE}{entry.kind}" if streams.of(entry.subject) else entry.kind


_LIVE = "live."
_READER = permissions.grant(permissions.Principal(permissions.Role.READER))
_SECURITY: Part = {
    "token": {
        "type": "apiKey",
        "in": "user",
        "description": "NATS' auth_token: that of the ServiceAccount ebbgate-reader, for the audience "
        "ebbgate-nats. It ends: read it anew for each connection.",
    },
    "nkey": {
        "type": "asymmetricEncryption",
        "description": "NATS' nkey: the seed that `ebbgate-usher credentials` made for readers.",
    },
}


def _server() -> Part:
    return {
        "host": "ebbgate-nats:4222",
        "protocol": "nats",
        "description": "By TLS, with certificates signed by ca.crt of the Secret ebbgate-nats-ca. A reader's "
        f"inboxes begin with `{_READER.inbox}`, its requests to JetStream with `{_READER.api}`. A server "
        "without credentials, for a machine of one's own, asks for none of this.",
        "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY],
    }


def _channel(name: str, entry: catalog.Entry) -> Part:
    """One that has several subjects is described by the last, the others are named."""
    *others, pattern = entry.pattern.split(", ")
    root = subjects.LIVE if name.startswith(_LIVE) else subjects.ROOT
    names = [_token(each) for each in _PARAMETER.findall(pattern)]
    channel: Part = {
        "address": f"{root}." + _PARAMETER.sub(lambda found: f"{{{_token(found[1])}}}", pattern),
        "description": entry.what + "".join(f"; also {root}.{each}" for each in others),
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }
    described = {each: {"description": "a dot inside it is written _"} for each in names}
    return channel | ({"parameters": described} if described else {})


def _sent(entry: catalog.Entry) -> Part:
    return {
        "action": "send",
        "summary": f"by the {entry.publisher}: {entry.what}",
        "channel": {"$ref": f"#/channels/{entry.kind}"},
    }


def _received(name: str, entry: catalog.Entry) -> Part:
    return {
        "action": "receive",
        "summary": f"by readers: {entry.what}",
        "channel": {"$ref": f"#/channels/{name}"},
    }


def _message(name: str, entry: catalog.Entry) -> Part:
    struct = codec.TYPES[entry.kind].__name__
    return {
        "name": entry.kind,
        "summary": entry.what,
        "headers": {"$ref": f"#/components/schemas/{_headers(name.startswith(_LIVE))}"},
        "payload": {"$ref": f"#/components/schemas/{struct}"},
        "examples": [{"name": entry.subject, "payload": json.loads(codec.encode(entry.example))}],
    }


def _headers(live: bool) -> str:
    return "LiveHeaders" if live else "Headers"


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
