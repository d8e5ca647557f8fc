import itertools
import json
import logging
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.http.observability import JsonFormatter
from tests.end_to_end.conftest import start_service, wait_until_ready

STAGES = ["read", "queue", "queue", "decode", "encode", "search"]  # first for a thread, then for a core
CALLER = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def headers(sampled=True):
    parent = f"00-{CALLER[0]}-{CALLER[1]}-{'01' if sampled else '00'}"
    return {"Content-Type": "image/png", "traceparent": parent, "X-Request-ID": "mine"}


@pytest.fixture
def spans(monkeypatch):
    """Finished spans of the requests that follow."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter.get_finished_spans
    provider.shutdown()


def test_a_span_for_the_request_and_one_for_every_stage(client, sketch, spans):
    response = client.post("/v1/search", content=sketch, headers=headers())
    [request] = [span for span in spans() if span.kind is trace.SpanKind.SERVER]
    assert request.name == "POST /v1/search"
    assert f"{request.context.trace_id:032x}" == CALLER[0]
    assert f"{request.parent.span_id:016x}" == CALLER[1]
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["svdraw.request_id"] == response.headers["x-request-id"] == "mine"
    stages = [span for span in spans() if span is not request]
    assert [span.name for span in stages] == STAGES
    for span, following in itertools.pairwise(stages):
        assert span.parent.span_id == request.context.span_id
        assert request.start_time <= span.start_time <= span.end_time <= following.start_time


def test_a_failure_is_told_and_a_probe_is_not(client, spans):
    client.post("/v1/search", content=b"no image", headers={"Content-Type": "image/png"})
    for path in ("/livez", "/metrics", "/static/app.js"):
        client.get(path)
    [request] = [span for span in spans() if span.kind is trace.SpanKind.SERVER]
    assert request.attributes["http.response.status_code"] == 400
    assert [span.name for span in spans() if span is not request] == ["read", "queue", "queue"]


def test_what_the_caller_does_not_sample_is_not_traced(client, sketch, spans):
    assert client.post("/v1/search", content=sketch, headers=headers(sampled=False)).status_code == 200
    assert spans() == ()


def test_the_log_has_the_ids(client, sketch, spans, caplog):
    with caplog.at_level(logging.INFO, "svdraw.access"):
        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(json.loads(JsonFormatter().format(record)))
        logging.getLogger("svdraw.access").addHandler(handler)
        try:
            client.post("/v1/search", content=sketch, headers=headers())
            client.get("/livez")
        finally:
            logging.getLogger("svdraw.access").removeHandler(handler)
    searched, probed = lines
    [request] = [span for span in spans() if span.kind is trace.SpanKind.SERVER]
    assert (searched["trace_id"], searched["span_id"]) == (CALLER[0], f"{request.context.span_id:016x}")
    assert "trace_id" not in probed


@pytest.fixture
def collector():
    """A collector of traces by OTLP over HTTP: its address and the spans it was sent."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in body.resource_spans:
                name = {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"]
                received.extend((name, self.path, span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_traces_go_where_the_environment_says(gallery_path, sketch, tmp_path, collector, monkeypatch):
    endpoint, received = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "sketches")
    process, url = start_service(gallery_path, tmp_path, "--runtime", "torch", "--reload-seconds", "0")
    wait_until_ready(url, process)
    assert httpx.post(f"{url}/v1/search", content=sketch, headers=headers(), timeout=60).status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert {(name, path) for name, path, _ in received} == {("sketches", "/v1/traces")}
    assert {span.name for _, _, span in received} == {"POST /v1/search", *STAGES}
    assert {span.trace_id.hex() for _, _, span in received} == {CALLER[0]}


def test_without_an_endpoint_nothing_is_loaded(gallery_path):
    code = f"""
import sys
from fastapi.testclient import TestClient
from service.app import create_app
from service.engine.lifecycle import Engine
from service.http.metrics import Metrics
from service.settings import ServiceSettings
settings = ServiceSettings(gallery={str(gallery_path)!r}, runtime="torch")
with TestClient(create_app(settings, Engine(settings, Metrics()))) as client:
    assert client.get("/v1/photos").status_code == 200
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
