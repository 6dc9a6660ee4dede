"""The bus as `doctor` asks it: whether it answers this node, and which nodes the plan names. Reads only."""

import asyncio
import logging

import nats.errors

from ebbgate_bus.contracts import codec, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import access, connection, follower
from ebbgate_programmer.core.symptoms import Bus

PATIENCE_S = 5.0
"""For connecting and reading together: a person waits."""


def ask(reach: access.Access, node: str) -> Bus:
    """Not to be called within an event loop."""
    logging.getLogger("ebbgate_bus").setLevel(logging.CRITICAL)  # the finding says it
    return asyncio.run(_ask(reach, node))


async def _ask(reach: access.Access, node: str) -> Bus:
    """A server that answers without having the plan's stream is one that no resolver has used yet."""
    bus = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            bus = await connection.connect(reach, name="doctor", principal=Principal(Role.PROGRAMMER, node))
            stored = await follower.read(bus, streams.PLAN, [f"{subjects.ALL_SCOPE}.peer.>"])
    except (TimeoutError, OSError, nats.errors.Error):
        return Bus(reach.shown, is_there=bus is not None)
    finally:
        if bus is not None:
            await bus.close()
    peers = frozenset(address for each in stored for address in _addresses(each))
    return Bus(reach.shown, is_there=True, has_plan=True, peers=peers)


def _addresses(message: Stored) -> tuple[str, ...]:
    try:
        row = codec.decode(message.subject, message.payload)
    except codec.Undecodable:  # the programmer itself says so in its Applied
        return ()
    return row.addresses if isinstance(row, rows.Peer) else ()
