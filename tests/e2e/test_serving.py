"""From `kubectl apply` to an answer, and a stream that outlives the order to end its pod."""

import re
import time

import pytest
from client import Client
from kube import Kube
from patience import eventually

pytestmark = pytest.mark.cluster

ENDPOINTS_SETTLE = 5  # seconds that a pod goes on listening before it is told to end


def test_answer_through_the_endpoint(kube: Kube, client: Client, chat: str) -> None:
    kube.kubectl("wait", "--for=condition=Ready", f"llmservice/{chat}", "--timeout=300s")
    status = (kube.get("llmservice", chat) or {})["status"]
    assert status["url"] == f"http://{chat}.{kube.namespace}.svc/v1"
    for served_name in ("chat", "smollm2"):
        assert "Paris" in client.ask(status["url"], served_name)
    columns, row = (line.split() for line in kube.kubectl("get", "llmservice", chat).splitlines())
    assert columns == ["NAME", "READY", "REASON", "REPLICAS", "URL", "AGE"]
    assert row[:5] == [chat, "True", "Serving", "1/1", status["url"]]
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)


def test_stream_finishes_on_a_pod_that_is_told_to_end(kube: Kube, client: Client, chat: str) -> None:
    (pod,) = (item["metadata"]["name"] for item in kube.pods(chat))
    metrics = f"/api/v1/namespaces/{kube.namespace}/pods/{pod}:8000/proxy/metrics"

    def one_runs() -> bool:
        return re.search(r"^octavo_requests_running\{.*\} 1", kube.kubectl("get", f"--raw={metrics}"), re.M) is not None

    url = f"http://{chat}.{kube.namespace}.svc/v1"
    with client.load(url, chat, requests=1, tokens=32) as load:
        (short,) = load.stop()
    ten_seconds = round(10 * short.tokens / (short.end - short.start))
    with client.load(url, chat, requests=1, tokens=ten_seconds) as load:
        eventually(one_runs, "the stream runs")
        kube.kubectl("delete", "pod", pod, "--wait=false")
        told = time.time()
        (stream,) = load.stop()
    assert stream.error is None
    assert stream.end > told + ENDPOINTS_SETTLE + 1, "too short a stream to show anything"
    eventually(lambda: kube.get("pod", pod) is None, "the pod ends once its last stream has")
    kube.wait_ready(chat)
