"""Health over HTTP, as a probe and as Prometheus see it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from ebbgate_bus.runtime import health


class Service:
    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.reason = ""

    def collect(self) -> list[Metric]:
        return [GaugeMetricFamily("ebbgate_answer", "of all questions", value=42.0)]

    async def ask(self, request: bytes) -> tuple[str, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0].decode().partition(" ")[2], body

    async def get(self, path: str) -> tuple[str, bytes]:
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    state = health.Health(lambda: service.reason, service.collect)
    serving = asyncio.ensure_future(health.serve(state, "127.0.0.1", service.port))
    try:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ConnectionRefusedError):
                    await service.get("/healthz")
                    break
                await asyncio.sleep(0)
        yield service
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def test_readiness_has_a_reason_and_health_has_none(service: Service) -> None:
    assert await service.get("/readyz") == ("200 OK", b"ok\n")
    service.reason = "pods aren't listed"
    assert await service.get("/readyz?verbose") == ("503 Service Unavailable", b"pods aren't listed\n")
    assert await service.get("/healthz") == ("200 OK", b"ok\n")


async def test_metrics_are_those_of_the_service_and_of_its_process(service: Service) -> None:
    status, body = await service.get("/metrics")
    assert status == "200 OK"
    families = {each.name: each for each in text_string_to_metric_families(body.decode())}
    assert families["ebbgate_answer"].samples[0].value == 42.0
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /healthz HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"nonsense\r\n\r\n", "405 Method Not Allowed"),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * health.REQUEST_LIMIT * 2, ""),
    ],
)
async def test_what_is_no_such_question_is_refused(service: Service, request_: bytes, status: str) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert (await service.ask(request_))[0] == status
    assert await service.get("/healthz") == ("200 OK", b"ok\n")


async def test_a_port_that_is_taken_is_an_error(service: Service) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await health.serve(health.Health(str, list), "127.0.0.1", service.port)
