"""Which files there are: path below docs/ → text."""

import json

from ebbgate_bus.contracts import catalog
from ebbgate_bus.reference import asyncapi, page, rights, schemas


def all_of_them() -> dict[str, str]:
    """A test compares them with what is committed."""
    found = {"bus.md": page.text(), "bus/asyncapi.json": _json(asyncapi.document())}
    found["bus/permissions.md"] = rights.text()
    for entry in catalog.ENTRIES:
        found[f"bus/{entry.kind}.schema.json"] = _json(schemas.of_kind(entry.kind))
    return found


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
