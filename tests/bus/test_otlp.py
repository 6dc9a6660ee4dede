"""Spans on their way to a real OTLP/HTTP receiver: as they arrive there, and when it is away."""

import http.client
import logging
import time
from collections.abc import Callable, Iterator

import pytest

from ebbgate_bus.contracts.trace import Context
from ebbgate_bus.runtime import tracing
from ebbgate_lab import receiver

PARENT, LINKED = Context("a" * 32, "b" * 16, sampled=True), Context("c" * 32, "d" * 16, sampled=True)
WITHIN_S = 20.0


@pytest.fixture
def taking() -> Iterator[receiver.Receiver]:
    taking = receiver.Receiver("127.0.0.1")
    yield taking
    taking.stop()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, taking: receiver.Receiver) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taking.endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    yield monkeypatch
    tracing.close()


def span(name: str, context: Context | None = None) -> tracing.Span:
    return tracing.Span(
        name=name,
        context=context or tracing.child(PARENT),
        parent=PARENT.span,
        kind=tracing.CONSUMER,
        began_ns=10**18,
        ended_ns=10**18 + 5,
        attributes=tracing.processing("ebbgate.v1.fact.pod.a.b", messages=2, template="ebbgate.v1.fact.pod"),
        links=(LINKED,),
    )


def until(holds: Callable[[], bool], taking: receiver.Receiver) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, taking.spans
        time.sleep(0.01)


def test_a_span_arrives_as_it_was_made(environment: pytest.MonkeyPatch, taking: receiver.Receiver) -> None:
    environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=of-the-environment")
    tracing.setup(service="programmer", name="n1", node="n1")
    sent = span("process ebbgate.v1.fact.pod")
    assert tracing.recorded(sent.context)
    tracing.record(sent)
    tracing.record(span("not sampled", Context("a" * 32, "e" * 16)))
    tracing.close()
    (got,) = taking.spans
    assert (got.service, got.instance) == ("ebbgate-programmer", "of-the-environment")
    assert (got.name, got.kind, got.parent) == (sent.name, "consumer", PARENT.span)
    assert (got.trace, got.span) == (PARENT.trace, sent.context.span)
    assert (got.began_ns, got.ended_ns, got.links) == (10**18, 10**18 + 5, (LINKED.trace,))
    assert got.attributes["messaging.system"] == "nats"
    assert got.attributes["messaging.batch.message_count"] == 2
    assert not tracing.recorded(sent.context)


def test_a_receiver_that_refuses_costs_spans_and_one_line(
    environment: pytest.MonkeyPatch, taking: receiver.Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbgate_bus")  # which a command line's test may have silenced
    environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{taking.endpoint}/nowhere")
    tracing.setup(service="resolver", name="r1")
    tracing.record(span("lost"))
    until(lambda: "spans.lost" in caplog.messages, taking)
    tracing.record(span("lost, too"))
    began = time.monotonic()
    tracing.close()
    assert time.monotonic() - began < WITHIN_S
    assert caplog.messages.count("spans.lost") == 1
    assert taking.spans == []


@pytest.mark.parametrize(("path", "status"), [("/v1/traces", 400), ("/v1/metrics", 400)])
def test_the_receiver_refuses_what_it_cannot_read(taking: receiver.Receiver, path: str, status: int) -> None:
    connection = http.client.HTTPConnection(taking.endpoint.removeprefix("http://"))
    connection.request("POST", path, b"\xff\xff")
    assert connection.getresponse().status == status
    connection.close()
