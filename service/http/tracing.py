"""Tracing with OpenTelemetry.

FastAPI creates the span of a request, with the caller's ``traceparent`` as its parent. It loads the SDK and its
exporter only if ``OTEL_*`` variables name an endpoint. The stages of the request become children of that span.
"""

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

from service.http.root_path import own_path
from service.http.stopwatch import Stopwatch

__all__ = ["TELEMETRY", "mark_request", "record_stages", "trace_ids"]

_UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})

TELEMETRY: TelemetryConfig = {
    "auto_configure": True,
    "metrics": False,  # metrics are at /metrics
    "logs": False,
    "operation_spans": False,
    "exclude": lambda scope: own_path(scope) in _UNTRACED or own_path(scope).startswith("/static/"),
}


def mark_request(request_id: str) -> None:
    """Records the request's id in its span."""
    trace.get_current_span().set_attribute("svdraw.request_id", request_id)


def record_stages(stopwatch: Stopwatch) -> None:
    """Creates a span for every stage, below that of the request; does nothing if the request is not traced."""
    if not trace.get_current_span().get_span_context().is_valid:
        return
    tracer = trace.get_tracer("svdraw")
    for stage in stopwatch.stages:
        tracer.start_span(stage.name, start_time=stage.start).end(stage.end)


def trace_ids() -> dict[str, str]:
    """``trace_id`` and ``span_id`` of the current request, in hexadecimal; empty if it is not traced."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}
