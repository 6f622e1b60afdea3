"""Traces, as an OpenTelemetry collector gets them."""

import gzip
import os
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from patience import PATIENCE, eventually

pytestmark = pytest.mark.slow

collector_messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Keeps the spans that it is sent: (service, span, attributes)."""

    def __init__(self) -> None:
        self.spans: list[tuple] = []
        self.paths: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                body = handler.rfile.read(int(handler.headers["content-length"]))
                if handler.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                self.paths.add(handler.path)
                self._keep(body)
                handler.send_response(200)
                handler.send_header("content-length", "0")
                handler.end_headers()

            def log_message(handler, *_) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, name: str) -> tuple:
        """The span of the request with this id."""
        found = eventually(
            lambda: [span for span in self.spans if span[2].get("octavo.request.id") == name],
            lambda: f"a span of {name} in {self.spans}",
        )
        assert len(found) == 1
        return found[0]

    def _keep(self, body: bytes) -> None:
        message = collector_messages.ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            service = values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [(service, span, values(span.attributes)) for span in scope.spans]


def values(attributes) -> dict:
    return {item.key: plain(item.value) for item in attributes}


def plain(value):
    kind = value.WhichOneof("value")
    return [plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@pytest.fixture(scope="module")
def collector():
    one = Collector()
    yield one
    one.close()


@pytest.fixture(scope="module")
def traced(collector, scripted_servers):
    server = scripted_servers("--otlp-endpoint", collector.url, **SOON)
    server.wait_ready()
    return server


def ask(server, name: str, path: str = "/v1/completions", **changes) -> httpx.Response:
    body = {"model": "smollm2", "prompt": "hi there", "max_tokens": 3} | changes
    headers = {"x-request-id": name, "traceparent": f"00-{TRACE}-{PARENT}-01"}
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, trust_env=False, timeout=PATIENCE)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_span(traced, collector, stream):
    name = f"traced-{stream}"
    before = time.time_ns()
    ask(traced, name, stream=stream)
    service, span, attributes = collector.wait_for(name)
    assert service == "octavo"
    assert collector.paths == {"/v1/traces"}
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert (span.name, span.kind, span.status.code) == ("text_completion smollm2", span.SPAN_KIND_SERVER, 0)
    first_token = attributes.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < first_token < PATIENCE
    assert attributes == {
        "http.request.method": "POST",
        "url.path": "/v1/completions",
        "http.response.status_code": 200,
        "octavo.request.id": name,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "octavo",
        "gen_ai.request.model": "smollm2",
        "gen_ai.response.model": "smollm2",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
    }
    assert [event.name for event in span.events] == ["scheduled", "first_token"]
    times = [event.time_unix_nano for event in span.events]
    assert before <= span.start_time_unix_nano < times[0] < times[1] <= span.end_time_unix_nano + 10**6


def test_a_request_without_a_parent_is_a_trace_of_its_own(traced, collector):
    httpx.get(f"{traced.url}/v1/models", headers={"x-request-id": "alone"}, trust_env=False, timeout=PATIENCE)
    _, span, _ = collector.wait_for("alone")
    assert span.parent_span_id == b""
    assert span.name == "GET /v1/models"
    line = next(line for line in traced.log if "alone" in line)
    assert f"trace_id={span.trace_id.hex()}" in line


@pytest.mark.parametrize(
    ("prompt", "stream", "kind"), [("[refuse deadline]", False, "504"), ("[error deadline]", True, "error")]
)
def test_a_failure_is_marked(traced, collector, prompt, stream, kind):
    name = f"failed-{kind}"
    ask(traced, name, prompt=prompt, stream=stream, max_tokens=9)
    _, span, attributes = collector.wait_for(name)
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert attributes["error.type"] == kind


def test_a_refused_request_is_no_failure_of_the_server(traced, collector):
    ask(traced, "refused", max_tokens=-1)
    _, span, attributes = collector.wait_for("refused")
    assert attributes["http.response.status_code"] == 400
    assert span.status.code == 0


def test_health_checks_are_not_traced(traced, collector):
    for path in ("/health", "/health/live", "/metrics", "/v1/models"):
        httpx.get(
            f"{traced.url}{path}",
            headers={"x-request-id": f"probe{path.replace('/', '.')}"},
            trust_env=False,
            timeout=PATIENCE,
        )
    collector.wait_for("probe.v1.models")
    assert not any("health" in span.name or "metrics" in span.name for _, span, _ in collector.spans)


def test_the_last_spans_are_sent_at_the_end(collector, start_scripted):
    server = start_scripted("--otlp-endpoint", collector.url + "/v1/traces", OTEL_BSP_SCHEDULE_DELAY="60000")
    server.wait_ready()
    ask(server, "last")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0
    collector.wait_for("last")


def test_a_collector_that_is_gone_harms_nobody(start_scripted):
    server = start_scripted("--otlp-endpoint", "http://127.0.0.1:9", **SOON)
    server.wait_ready()
    for number in range(5):
        assert ask(server, f"unseen-{number}").status_code == 200
        time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://a", "http://", "http://a b"])
def test_a_bad_endpoint_is_one_line(scripted_command, endpoint):
    command = [*scripted_command, "builtin://smollm2", "--otlp-endpoint", endpoint]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert "otlp_endpoint" in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_packages_are_one_line(scripted_command, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry.sdk'] = None\n")
    command = [*scripted_command, "builtin://smollm2", "--otlp-endpoint", "http://a:4318"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment)
    assert done.returncode == 2
    assert "pip install 'octavo[tracing]'" in done.stderr
    assert done.stderr.count("\n") == 1
