"""Health over HTTP, as a probe and as Prometheus see it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ebbgate_bus.runtime import health, metrics, options

CATALOGUE = metrics.Catalogue("ebbgate_test")
ANSWER = CATALOGUE.gauge("answer", "Of all questions")
ASKED = CATALOGUE.counter("asked", "Questions", "by", "tone")
DELAY = CATALOGUE.histogram("delay_seconds", "Until the answer", "by")


class Service:
    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.reason = ""

    def collect(self) -> list[metrics.Measured]:
        delays = metrics.Histogram()
        for delay_s in (0.001, 0.002, 99.0):
            delays.observe(delay_s)
        asked = metrics.Measured(ASKED, {("me", "kind"): 2, ("you", 'so "so"'): 3})
        return [metrics.one(ANSWER, 42), asked, metrics.by(DELAY, {"me": delays})]

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
    address = options.HealthAddress("127.0.0.1", service.port)
    serving = asyncio.ensure_future(health.serve(state, address))
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
    assert families["ebbgate_test_answer"].samples[0].value == 42.0
    asked = {each.labels["tone"]: each.value for each in families["ebbgate_test_asked"].samples}
    assert asked == {"kind": 2.0, 'so "so"': 3.0}
    delays = {each.labels.get("le", each.name): each.value for each in families[DELAY.name].samples}
    assert (delays["0.001"], delays["0.0025"], delays["10.0"], delays["+Inf"]) == (1, 2, 2, 3)
    assert delays[f"{DELAY.name}_sum"] == pytest.approx(99.003)
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
        await health.serve(health.Health(str, list), options.HealthAddress("127.0.0.1", service.port))


async def test_nothing_is_served_without_a_port() -> None:
    await asyncio.wait_for(health.serve(health.Health(str, list), None), 10)
