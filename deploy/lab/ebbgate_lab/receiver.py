"""An OTLP/HTTP receiver: takes traces as any collector does, and keeps them for who asks.

In the network namespace that its maker is in. Made of the protocol's own messages; says no to what it can't
read, as the protocol wants.
"""

import gzip
import http.server
import threading

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"


class Received(msgspec.Struct, frozen=True):
    """A span. Ids in hex; `parent` empty for a root; `links`: trace ids."""

    service: str
    instance: str
    name: str
    trace: str
    span: str
    parent: str
    kind: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, str | int | bool]
    links: tuple[str, ...]


class Receiver:
    """Listens from the start on. `spans`: what has come so far."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.spans: list[Received] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                self.send_response(receiver.take(self.path, body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self._server = http.server.ThreadingHTTPServer((host, port), Handler)
        self.endpoint = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, path: str, body: bytes) -> int:
        """The HTTP status to answer with."""
        request = ExportTraceServiceRequest()
        try:
            request.ParseFromString(body)
        except DecodeError:
            return 400
        if path != PATH:
            return 404
        for of_resource in request.resource_spans:
            resource = _plain(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [_received(resource, span) for span in of_scope.spans]
        return 200

    def of(self, trace: str) -> list[Received]:
        """Spans of one trace, in the order in which they began."""
        return sorted((each for each in self.spans if each.trace == trace), key=lambda each: each.began_ns)


def _received(resource: dict[str, str | int | bool], span: Span) -> Received:
    return Received(
        service=str(resource["service.name"]),
        instance=str(resource["service.instance.id"]),
        name=span.name,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes=_plain(span.attributes),
        links=tuple(link.trace_id.hex() for link in span.links),
    )


def _plain(attributes: "list[KeyValue]") -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for each in attributes:
        kind = each.value.WhichOneof("value")
        found[each.key] = getattr(each.value, kind) if kind else ""
    return found
