"""JetStream's API calls that Ebbgate needs beside publishing: the streams of the contract, made and kept.

Raw requests instead of nats-py's dataclasses: an old server ignores a field it doesn't know without an error
(2.9 does so with all three we depend on), so the configuration in the answer is compared with what was asked.
"""

import asyncio
import json
import logging
from typing import Any

import nats.errors

from ebbgate_bus.contracts import streams
from ebbgate_bus.runtime import connection

RETRY_S = 0.5
FEATURES = ("allow_msg_ttl", "allow_atomic", "republish")
"""Those of the configuration that old servers don't know."""
NOT_FOUND = 10059

log = logging.getLogger(__name__)


class ApiError(Exception):
    """JetStream's answer was an error. `code`: its err_code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


async def request(bus: connection.Bus, operation: str, body: object) -> dict[str, Any]:
    """The decoded answer to `operation` of the API. Raises ApiError, nats.errors.Error (no answer)."""
    reply = await bus.request(f"{bus.api}.{operation}", json.dumps(body).encode(), timeout=5)
    answer: dict[str, Any] = json.loads(reply.data)
    if "error" in answer:
        raise ApiError(f"{operation}: {answer['error']['description']}", answer["error"].get("err_code", 0))
    return answer


async def ensure_streams(bus: connection.Bus, *, replicas: int = 1) -> None:
    """Create or update the streams, now and after each reconnect (the server may have lost them).

    Waits while JetStream isn't ready, or too old: servers are upgraded, too. `bus.denied` says so then.
    """
    await _ensure_all(bus, replicas)
    tasks: set[asyncio.Task[None]] = set()

    def again() -> None:
        task = asyncio.ensure_future(_ensure_all(bus, replicas))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    bus.on_interruption(again)


async def _ensure_all(bus: connection.Bus, replicas: int) -> None:
    for stream in streams.STREAMS:
        await _ensure(bus, streams.api_config(stream, replicas=replicas))


async def _ensure(bus: connection.Bus, config: dict[str, object]) -> None:
    said = ""
    while reason := await _refusal(bus, config):
        if reason != said:
            log.warning("stream.refused", extra={"fields": {"stream": config["name"], "reason": reason}})
        said = reason
        await asyncio.sleep(RETRY_S)


async def _refusal(bus: connection.Bus, config: dict[str, object]) -> str:
    """Why the stream isn't as it must be, or empty. A server that is too old isn't asked for any."""
    if reason := streams.too_old(bus.server_version):
        bus.denied = reason
        return reason
    try:
        answer = await _create_or_update(bus, config)
    except (nats.errors.Error, ApiError) as error:
        return str(error) or repr(error)
    ignored = [name for name in FEATURES if config.get(name) and not answer["config"].get(name)]
    if not ignored:
        return ""
    bus.denied = f"the server has no {', '.join(ignored)}, without which nothing works"
    return bus.denied


async def _create_or_update(bus: connection.Bus, config: dict[str, object]) -> dict[str, Any]:
    try:
        return await request(bus, f"STREAM.UPDATE.{config['name']}", config)
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise
    return await request(bus, f"STREAM.CREATE.{config['name']}", config)
