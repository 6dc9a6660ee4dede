"""JSON Schema (2020-12) of each message, from its Struct: fields, types, defaults, and its own words."""

import functools
import inspect
import re
from typing import Any

import msgspec

from ebbgate_bus.contracts import codec
from ebbgate_bus.contracts.message import Message

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


@functools.cache
def components() -> dict[str, Schema]:
    """By Struct's name; they refer to each other as `#/$defs/NAME`."""
    structs = sorted(set(codec.TYPES.values()), key=lambda struct: struct.__name__)
    _, found = msgspec.json.schema_components(map(_documented, structs))
    return {name: _described(schema) for name, schema in found.items()}


def of_kind(kind: str) -> Schema:
    """Stands alone. Fields that it doesn't name are allowed: a later minor version may have them."""
    root = codec.TYPES[kind].__name__
    needed = {name: components()[name] for name in sorted(_closure(root)) if name != root}
    schema = {"$schema": DRAFT, "title": root, **components()[root]}
    return schema | ({"$defs": needed} if needed else {})


def _closure(root: str) -> set[str]:
    """What `root` refers to, directly or not, and itself."""
    found: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(components()[name])
    return found


def _references(value: object) -> list[str]:
    match value:
        case {"$ref": str() as reference}:
            return [reference.rpartition("/")[2]]
        case dict():
            return [name for each in value.values() for name in _references(each)]
        case list():
            return [name for each in value for name in _references(each)]
    return []


def _described(schema: Schema) -> Schema:
    """A docstring's words where they belong: those on a field (`field`: …) with it, the others in front."""
    about, *rest = _FIELD.split(" ".join(inspect.cleandoc(schema.get("description", "")).split()))
    properties = {name: dict(field) for name, field in schema.get("properties", {}).items()}
    for names, words in zip(rest[::2], rest[1::2], strict=True):
        for name in _NAME.findall(names):
            if name in properties:
                properties[name]["description"] = words.strip().rstrip(".;")
            else:
                about += f"{names}: {words}"  # of a tuple, whose fields have no names outside
    found = schema | {"description": about.strip()}
    return found | ({"properties": properties} if properties else {})


_FIELD = re.compile(r"((?:`\w+`(?:, )?)+): ")
_NAME = re.compile(r"`(\w+)`")


def _documented(struct: type[Message]) -> type[msgspec.Struct]:
    """With `Any` for JSON that is passed on as it is: msgspec can't write the default of such a field."""
    fields = msgspec.structs.fields(struct)
    if all(field.type is not msgspec.Raw for field in fields):
        return struct
    changed = [
        (field.name, Any, None) if field.type is msgspec.Raw else _field(field)
        for field in sorted(fields, key=lambda field: not field.required)
    ]
    return msgspec.defstruct(struct.__name__, changed, namespace={"__doc__": struct.__doc__})


def _field(field: msgspec.structs.FieldInfo) -> tuple[str, Any] | tuple[str, Any, Any]:
    return (field.name, field.type) if field.required else (field.name, field.type, field.default)
