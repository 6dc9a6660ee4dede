"""Spans on their way to an OTLP receiver over HTTP, by the official SDK. Imported only where it is used.

Ours are made after the work, with ids that went out in headers before; so the SDK's tracer has no part in
it, but its sampler, its batches and its exporter have, with their usual environment variables (OTEL_BSP_…,
OTEL_EXPORTER_OTLP_…, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME). A receiver that is away costs spans and
nothing else: at most 2,048 wait in a thread of their own.
"""

import importlib.metadata
import logging
import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from ebbgate_bus.contracts.trace import Context
from ebbgate_bus.runtime import tracing

CLOSE_S = 2.0
"""A service that stops waits no longer for its last spans to go."""
_KINDS = {
    tracing.INTERNAL: SpanKind.INTERNAL,
    tracing.PRODUCER: SpanKind.PRODUCER,
    tracing.CONSUMER: SpanKind.CONSUMER,
    tracing.CLIENT: SpanKind.CLIENT,
}

log = logging.getLogger(__name__)


class Otlp:
    """Raises ValueError for what the environment says and the SDK can't read."""

    def __init__(self, *, service: str, name: str, node: str) -> None:
        # Each lost batch would be several lines of the SDK's; `_Heard` says it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        version = importlib.metadata.version(f"ebbgate-{service}")
        self._resource = _resource(service, name, node, version)
        self._scope = InstrumentationScope("ebbgate", version)
        self._sampler = TracerProvider(resource=self._resource, shutdown_on_exit=False).sampler
        self._processor = BatchSpanProcessor(_Heard(OTLPSpanExporter()))

    def sampled(self, trace_id: str) -> bool:
        decision = self._sampler.should_sample(None, int(trace_id, 16), "").decision
        return decision is Decision.RECORD_AND_SAMPLE

    def export(self, span: tracing.Span) -> None:
        context = span.context
        parent = Context(context.trace, span.parent, context.sampled) if span.parent else None
        status = Status(StatusCode.ERROR, span.error) if span.error else Status()
        self._processor.on_end(
            ReadableSpan(
                span.name,
                _context(context),
                parent=_context(parent, remote=span.kind == tracing.CONSUMER) if parent else None,
                resource=self._resource,
                attributes=span.attributes,
                links=[Link(_context(each, remote=True)) for each in span.links],
                kind=_KINDS[span.kind],
                status=status,
                start_time=span.began_ns,
                end_time=span.ended_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """The SDK's own end can take half a minute when nobody answers."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def _resource(service: str, name: str, node: str, version: str) -> Resource:
    """The environment's word counts more than ours."""
    ours = {
        "service.name": f"ebbgate-{service}",
        "service.namespace": "ebbgate",
        "service.instance.id": name,
        "service.version": version,
    }
    if node:
        ours["k8s.node.name"] = node
    return Resource.create(ours).merge(OTELResourceDetector().detect())


def _context(context: Context, *, remote: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace, 16), int(context.span, 16), is_remote=remote, trace_flags=flags)


class _Heard(SpanExporter):
    """Exports, and says in one line when that begins to fail, and when it works again."""

    def __init__(self, inner: OTLPSpanExporter) -> None:
        self._inner = inner
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        if failing := result is not SpanExportResult.SUCCESS:
            fields = {"spans": len(spans), "reason": "the OTLP receiver doesn't take them; they are lost"}
            if not self._failing:
                log.warning("spans.lost", extra={"fields": fields})
        elif self._failing:
            log.info("spans.delivered")
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)
