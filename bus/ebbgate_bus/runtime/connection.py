"""The connection to nats-server: waits for it at start, comes back for ever, says so once per change.

nats-py knows one callback per event and connection; `Bus` passes interruptions on to whoever must read again
what it may have missed (followers), or send again what may not have arrived (the publisher).
"""

import logging
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import Client

PATIENCE: dict[str, Any] = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.1, "connect_timeout": 2}
"""For ever, and soon: 0.3-0.6 s from server restart to the first message, 1.7 s with the library's
2 s (measured)."""
PENDING_BYTES = 64 * 1024 * 1024
"""What is published while disconnected waits here; the publisher's window stays far below."""

log = logging.getLogger(__name__)


class Bus(Client):
    """A nats-py client whose interruptions can be listened to. `interruptions`: how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.interruptions = 0
        self._listeners: list[Callable[[], None]] = []

    def on_interruption(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever messages may have been missed: after a reconnect, or on overflow.

        Returns a function that ends it.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def interrupted(self) -> None:
        self.interruptions += 1
        for listener in tuple(self._listeners):
            listener()


async def connect(url: str, *, name: str, **options: Any) -> Bus:
    """A connection to the first reachable server of `url` (comma-separated). Waits as long as it takes."""
    bus = Bus()
    troubles: set[str] = set()

    async def reconnected() -> None:
        log.info("bus.reconnected", extra={"fields": {"server": _server(bus)}})
        troubles.clear()
        bus.interrupted()

    async def disconnected() -> None:
        if not bus.is_closed and not bus.is_draining:
            log.warning("bus.disconnected", extra={"fields": {"url": url}})

    async def failed(error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            bus.interrupted()
        if str(error) not in troubles and not bus.is_closed:
            troubles.add(str(error))
            log.warning("bus.failed", extra={"fields": {"url": url, "reason": str(error) or repr(error)}})

    await bus.connect(
        servers=url.split(","),
        name=name,
        allow_reconnect=True,
        pending_size=PENDING_BYTES,
        reconnected_cb=reconnected,
        disconnected_cb=disconnected,
        error_cb=failed,
        **(PATIENCE | options),
    )
    log.info("bus.connected", extra={"fields": {"server": _server(bus)}})
    return bus


def _server(bus: Bus) -> str:
    return bus.connected_url.netloc if bus.connected_url else ""
