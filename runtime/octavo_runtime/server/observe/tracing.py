"""OpenTelemetry traces: one span for each request, by the conventions for generative AI (semconv gen_ai.*)."""

import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo_runtime.server.http.record import RequestRecord, current_request

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_EXPORT_SECONDS = 2.0  # a collector that does not answer must not hold up the server's end
_DEFAULT_PATH = "/v1/traces"
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}


def start_tracing(endpoint: str) -> "TracerProvider":
    """Makes what spans are sent to `endpoint` by: OTLP over HTTP, in the background, at most once in some seconds. The
    SDK's own OTEL_* variables hold (headers, sampling, resource). ValueError: the packages are missing."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ValueError(
            f"otlp_endpoint: needs the extra `tracing`: pip install 'octavo[tracing]' ({error.name} is missing)"
        ) from None
    os.environ.setdefault("OTEL_SERVICE_NAME", "octavo")
    url = endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _DEFAULT_PATH
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, timeout=_EXPORT_SECONDS)))
    return provider


class Tracing:
    """ASGI middleware: a span around each request but health checks and scrapes. The caller's `traceparent` becomes its
    parent. Whatever the request's record has learned by its end stands in the span."""

    def __init__(self, app: ASGIApp, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = provider.get_tracer("octavo")
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers within a span (ASGI)."""
        record = current_request()
        if scope["type"] != "http" or record.is_probe:
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind

        began = time.time_ns()
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = self._tracer.start_span(
            f"{record.method} {record.path}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=began,
        )
        record.trace_id = f"{span.get_span_context().trace_id:032x}"
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            span.record_exception(error)
            raise
        finally:
            _describe(span, record, began)
            span.end()


def _describe(span: "Span", record: RequestRecord, began: int) -> None:
    from opentelemetry.trace import StatusCode

    operation = _OPERATIONS.get(record.path)
    if operation and record.model:
        span.update_name(f"{operation} {record.model}")
    attributes: dict[str, Any] = {
        "http.request.method": record.method,
        "url.path": record.path,
        "http.response.status_code": record.status,
        "octavo.request.id": record.id,
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "octavo" if operation else None,
        "gen_ai.request.model": record.model,
        "gen_ai.response.model": record.model,
        "gen_ai.response.finish_reasons": record.finish_reasons or None,
        "gen_ai.response.time_to_first_chunk": record.first_token_seconds,
    }
    if record.prompt_tokens:
        attributes |= {
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "gen_ai.usage.output_tokens": record.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        }
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})
    if record.scheduled_seconds is not None and record.first_token_seconds is not None:
        span.add_event("scheduled", timestamp=began + int(record.scheduled_seconds * 1e9))
        span.add_event("first_token", timestamp=began + int(record.first_token_seconds * 1e9))
    if (record.status or 0) >= 500 or "error" in record.finish_reasons:
        span.set_attribute("error.type", str(record.status) if (record.status or 0) >= 500 else "error")
        span.set_status(StatusCode.ERROR)
