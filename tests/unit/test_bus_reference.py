"""The bus as it is documented: pages, schemas, AsyncAPI. None may be out of date, or say what isn't so."""

import json
import pathlib
import re
from typing import Any

import jsonschema
import pytest

from ebbgate_bus.contracts import catalog, codec, permissions
from ebbgate_bus.reference import asyncapi, files, schemas

DOCS = pathlib.Path(__file__).parents[2] / "docs"
FILES = files.all_of_them()
KINDS = [entry.kind for entry in catalog.ENTRIES]


@pytest.mark.parametrize("name", FILES)
def test_what_is_committed_is_what_the_contracts_say(name: str) -> None:
    assert (DOCS / name).read_text() == FILES[name], "run make reference"


def test_there_is_a_schema_of_each_kind_and_of_no_other() -> None:
    held = {path.name.removesuffix(".schema.json") for path in (DOCS / "bus").glob("*.schema.json")}
    assert held == set(codec.TYPES)


@pytest.mark.parametrize("entry", catalog.ENTRIES, ids=KINDS)
def test_an_example_is_what_its_schema_allows(entry: catalog.Entry) -> None:
    schema = schemas.of_kind(entry.kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    example = json.loads(codec.encode(entry.example))
    jsonschema.validate(example, schema)
    for field in schema.get("required", ()):
        without = {key: value for key, value in example.items() if key != field}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(without, schema)


def test_words_on_a_field_stand_with_it() -> None:
    schema = schemas.of_kind("fact.pod")
    assert schema["properties"]["phase"]["description"] == "Kubernetes' word"
    assert "description" not in schema["properties"]["name"]
    path = schemas.of_kind("plan.group")["$defs"]["Path"]
    assert "`slot`: names the egress IP there" in path["description"]  # a tuple has no field to put it at


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi.document()
    references = list(_references(document))
    assert len(references) > 3 * len(KINDS)
    for reference in references:
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    channels = document["channels"].values()
    for channel in channels:
        named = [part[1:-1] for part in channel["address"].split(".") if part.startswith("{")]
        assert named == list(channel.get("parameters", {}))


def test_a_reader_may_hear_every_channel_that_is_received_and_each_kind_has_one() -> None:
    document = asyncapi.document()
    reader = permissions.grant(permissions.Principal(permissions.Role.READER))
    heard = [each for each in document["operations"].values() if each["action"] == "receive"]
    assert len(heard) == len(KINDS)
    for operation in heard:
        channel = document["channels"][operation["channel"]["$ref"].removeprefix("#/channels/")]
        assert permissions.may_subscribe(reader, re.sub(r"{[^}]+}", "*", channel["address"]))
    assert document["servers"]["nats"]["security"]
    assert {"Headers", "LiveHeaders"} <= document["components"]["schemas"].keys()


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for part in value.values() for each in _references(part)]
    return [each for part in value for each in _references(part)] if isinstance(value, list) else []
