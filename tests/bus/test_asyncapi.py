"""The AsyncAPI document on the real server: what a client made of it hears is what it says."""

import json
import re
from typing import Any

import jsonschema
from nats.aio.msg import Msg

from ebbgate_bus.contracts import catalog, codec, envelope, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.reference import asyncapi
from ebbgate_bus.runtime import connection, publisher, tracing

DOCUMENT = asyncapi.document()


def found(reference: dict[str, str]) -> Any:
    part: Any = DOCUMENT
    for name in reference["$ref"].removeprefix("#/").split("/"):
        part = part[name]
    return part


def conforms(value: object, reference: dict[str, str]) -> None:
    root = {**found(reference), "components": DOCUMENT["components"]}
    jsonschema.validate(value, root, cls=jsonschema.Draft202012Validator)


async def heard(bus: connection.Bus, kind: str) -> tuple[Any, dict[str, Any]]:
    """A subscription as a client has it that was made of the document, and the message that it is told of."""
    channel = found(DOCUMENT["operations"][f"receive.{kind}"]["channel"])
    (message,) = channel["messages"].values()
    return await bus.subscribe(re.sub(r"{[^}]+}", "*", channel["address"])), found(message)


async def test_each_kind_is_heard_where_and_as_the_document_says(bus: connection.Bus) -> None:
    send = publisher.Publisher(bus)
    await send.start()
    for entry in catalog.ENTRIES:
        subscription, described = await heard(bus, entry.kind)
        payload = codec.encode(entry.example)
        if stored := streams.of(entry.subject):
            await send.publish([Outgoing(entry.subject, payload, tracing.headers())])
        else:
            await bus.publish(entry.subject, payload)
        message: Msg = await subscription.next_msg(timeout=10)
        conforms(json.loads(message.data), described["payload"])
        conforms(message.headers or {}, described["headers"])
        assert message.data == payload
        if stored:
            assert message.headers
            assert message.headers["Nats-Stream"] == stored.name
            assert message.headers["Nats-Subject"] == entry.subject
            assert envelope.TRACEPARENT in message.headers
            assert message.subject == subjects.live(entry.subject)
        await subscription.unsubscribe()
