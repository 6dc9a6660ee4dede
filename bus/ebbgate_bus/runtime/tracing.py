"""Tracing: contexts for messages, always; spans to an OTLP receiver, where the environment names one.

A context costs a microsecond or two, and says on the bus what follows from what. Spans are values that a
service makes when the work is done; who gave no endpoint imports nothing of OpenTelemetry and makes none.
Who begins a trace decides whether it is sampled, by the usual OTEL_TRACES_SAMPLER; all others follow. W3C
Trace Context, OpenTelemetry's conventions for messaging.
"""

import logging
import os
from collections.abc import Mapping
from typing import Protocol

import msgspec

from ebbgate_bus.contracts import trace
from ebbgate_bus.contracts.trace import Context

INTERNAL, PRODUCER, CONSUMER, CLIENT = "internal", "producer", "consumer", "client"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"

Attributes = Mapping[str, str | int | float | bool]

log = logging.getLogger(__name__)


class Span(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Work that is done. `parent`: a span's id, or empty. Nanoseconds since 1970."""

    name: str
    context: Context
    parent: str = ""
    kind: str = INTERNAL
    began_ns: int
    ended_ns: int
    attributes: Attributes = {}
    links: tuple[Context, ...] = ()
    error: str = ""


class Exporter(Protocol):
    """Where spans go. `sampled`: shall a trace of this id be recorded?"""

    def sampled(self, trace_id: str) -> bool: ...

    def export(self, span: Span) -> None: ...

    def close(self) -> None: ...


class _Tracing:
    """Of this process, as its logging is."""

    exporter: Exporter | None = None


def setup(*, service: str, name: str, node: str = "", environment: Mapping[str, str] = os.environ) -> None:
    """Record spans from now on, if the environment says where to. What it says and can't be done is logged,
    and then none are: nobody loses traffic over that.
    """
    if not _is_wanted(environment):
        return
    if (protocol := _first(environment, _PROTOCOLS) or _SPOKEN) != _SPOKEN:
        reason = f"OTLP's {protocol} isn't spoken here, only {_SPOKEN}"
        log.error("tracing.refused", extra={"fields": {"reason": reason}})
        return
    # Imported only here: 50 ms and some 20 MB.
    from ebbgate_bus.runtime import otlp

    try:
        _Tracing.exporter = otlp.Otlp(service=service, name=name, node=node)
    except ValueError as error:
        log.error("tracing.refused", extra={"fields": {"reason": str(error)}})
        return
    log.info("tracing.started", extra={"fields": {"endpoint": _first(environment, _ENDPOINTS)}})


def _is_wanted(environment: Mapping[str, str]) -> bool:
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporters = environment.get("OTEL_TRACES_EXPORTER", "otlp").split(",")
    return not off and "otlp" in exporters and bool(_first(environment, _ENDPOINTS))


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def close() -> None:
    """Send what waits, for a moment, and record no more."""
    exporter, _Tracing.exporter = _Tracing.exporter, None
    if exporter is not None:
        exporter.close()


def root() -> Context:
    """Begins a trace."""
    trace_id, exporter = os.urandom(16).hex(), _Tracing.exporter
    return Context(trace_id, os.urandom(8).hex(), exporter is not None and exporter.sampled(trace_id))


def child(parent: Context | None) -> Context:
    """Goes on with a trace; begins one if there is none."""
    if parent is None:
        return root()
    return Context(parent.trace, os.urandom(8).hex(), parent.sampled)


def recorded(context: Context) -> bool:
    """Whether spans of this trace are recorded here: nobody needs to make them otherwise."""
    return context.sampled and _Tracing.exporter is not None


def record(span: Span) -> None:
    """Only of a context that is `recorded`."""
    if _Tracing.exporter is not None:
        _Tracing.exporter.export(span)


def record_part(of: Context, name: str, when: tuple[int, int]) -> None:
    """A part of the work of span `of`, from and to in nanoseconds since 1970; of one that is `recorded`."""
    record(Span(name=name, context=child(of), parent=of.span, began_ns=when[0], ended_ns=when[1]))


def headers() -> dict[str, str]:
    """Those of a message that begins a trace, and is followed by no work that anybody would look for."""
    return trace.headers(root())


def sending(subject: str, *, messages: int = 1, template: str = "") -> Attributes:
    """Attributes of a span that sent `messages`. `template`: of the subject, without names."""
    return _messaging("send", subject, messages, template)


def processing(subject: str, *, messages: int = 1, template: str = "") -> Attributes:
    return _messaging("process", subject, messages, template)


def _messaging(operation: str, subject: str, messages: int, template: str) -> Attributes:
    found: dict[str, str | int | float | bool] = {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": subject,
    }
    if template:
        found["messaging.destination.template"] = template
    if messages > 1:
        found["messaging.batch.message_count"] = messages
    return found
