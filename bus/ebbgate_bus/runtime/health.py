"""What a service says of itself over HTTP: /healthz, /readyz, /metrics, for whoever gives it a port.

/healthz answers while the loop turns, and says nothing of NATS or the API server: a restart wouldn't mend
those. /readyz gives the reason when it is no. Metrics are collected when they are asked for, from numbers
that the service counts anyway; the Prometheus client is imported only then, as it takes 60 ms and 10 MB.

A few lines of HTTP/1.1 and no framework: three paths, GET only, one answer per connection.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from ebbgate_bus.runtime import metrics, options

if TYPE_CHECKING:
    from prometheus_client import Metric

REQUEST_LIMIT = 16 * 1024
REQUEST_S = 5.0
"""A request that isn't complete by then is given up: health must not be what keeps memory."""
PLAIN = "text/plain; charset=utf-8"


class Health(msgspec.Struct, frozen=True):
    """`unready`: why not, or empty. `collect`: what there is to be measured, now."""

    unready: Callable[[], str]
    collect: Callable[[], Iterable[metrics.Measured]]


async def serve(health: Health, address: options.HealthAddress | None) -> None:
    """For ever; not at all without an address. Raises OSError if the port is taken."""
    if address is None:
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_respond(health, head))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address.host or None, address.port, limit=REQUEST_LIMIT)
    async with server:
        await server.serve_forever()


def _respond(health: Health, head: bytes) -> bytes:
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        return _answer("405 Method Not Allowed", b"GET only\n")
    match path:
        case b"/healthz":
            return _answer("200 OK", b"ok\n")
        case b"/readyz":
            reason = health.unready()
            return _answer("503 Service Unavailable" if reason else "200 OK", f"{reason or 'ok'}\n".encode())
        case b"/metrics":
            return _measured(health)
        case _:
            return _answer("404 Not Found", b"/healthz, /readyz, /metrics\n")


def _measured(health: Health) -> bytes:
    from prometheus_client import (
        CollectorRegistry,
        GCCollector,
        PlatformCollector,
        ProcessCollector,
        exposition,
    )

    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(_Collector(health))
    return _answer("200 OK", exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST)


class _Collector:
    """What the Prometheus client asks for. `describe`: nothing, so that registering doesn't collect."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterable["Metric"]:
        return metrics.prometheus(self._health.collect())

    def describe(self) -> Iterable["Metric"]:
        return ()


def _answer(status: str, body: bytes, content_type: str = PLAIN) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body
