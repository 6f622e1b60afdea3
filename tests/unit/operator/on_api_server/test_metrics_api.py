"""Autoscaling on the engine's metrics: the real HPA controller asks the operator, by way of the API server's
aggregator. Pods are an HTTP server of the test's."""

import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from live import READY, SMALLEST, Kubernetes, Operator, lead_here, set_pod_status
from patience import eventually

pytestmark = pytest.mark.cluster

METRICS = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*"
QUICK = {
    "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
    "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
}


class Pods:
    """Answers GET /metrics of every pod with `text`."""

    def __init__(self) -> None:
        self.text = ""
        outer = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(outer.text.encode())

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)

    def say(self, **gauges: float) -> None:
        lines = [
            f'# TYPE octavo_{name} gauge\noctavo_{name}{{model_name="m"}} {value}' for name, value in gauges.items()
        ]
        self.text = "\n".join(lines) + "\n"


@pytest.fixture
def pods() -> Iterator[Pods]:
    made = Pods()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def way(operator: Operator, kubernetes: Kubernetes, metrics_api_port: int) -> None:
    """Leads the API server to the operator, which runs in no pod."""
    lead_here(kubernetes, "octavo-metrics-api", metrics_api_port)


def spec(pods: Pods, **targets: Any) -> dict[str, Any]:
    annotations = {"prometheus.io/port": str(pods.server.server_port)}
    autoscaling = {"maxReplicas": 3, "targets": targets, "behavior": QUICK}
    return SMALLEST | {"autoscaling": autoscaling, "podTemplate": {"metadata": {"annotations": annotations}}}


def runs(kubernetes: Kubernetes, name: str) -> None:
    """What a kubelet would say of every pod."""
    set_pod_status(kubernetes, name, READY | {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]})


def replicas(kubernetes: Kubernetes, name: str) -> int:
    return int((kubernetes.get("deployment", name) or {"spec": {"replicas": -1}})["spec"]["replicas"])


def told(kubernetes: Kubernetes, name: str) -> Callable[[], str]:
    return lambda: f"{kubernetes.condition(name, 'ScalingActive')}\n{kubernetes.kubectl('describe', 'hpa', name)}"


def test_the_autoscaler_follows_the_engine(
    operator: Operator, way: None, kubernetes: Kubernetes, name: str, pods: Pods
) -> None:
    pods.say(requests_waiting=6.0, requests_running=1.0)
    kubernetes.apply(name, spec(pods, queueDepth=2, runningRequests=8))
    runs(kubernetes, name)
    eventually(
        lambda: kubernetes.condition(name, "ScalingActive").get("status") == "True",
        lambda: f"{told(kubernetes, name)()}\n{operator.log()[-3000:]}",
    )
    assert kubernetes.condition(name, "ScalingActive")["reason"] == "MetricsFound"
    eventually(lambda: replicas(kubernetes, name) == 3, told(kubernetes, name))
    runs(kubernetes, name)
    answer = json.loads(
        kubernetes.kubectl(
            "get", "--raw", f"{METRICS}/octavo_requests_waiting?labelSelector=serving.octavo.dev/service={name}"
        )
    )
    assert answer["kind"] == "MetricValueList"
    assert {item["value"] for item in answer["items"]} == {"6"}
    pods.say(requests_waiting=0.0, requests_running=0.0)
    eventually(lambda: replicas(kubernetes, name) == 1, told(kubernetes, name))


def test_a_metric_that_no_pod_says_is_named_with_the_reason(
    operator: Operator, way: None, kubernetes: Kubernetes, name: str, pods: Pods
) -> None:
    pods.say(requests_waiting=0.0)
    kubernetes.apply(name, spec(pods, queueDepth=2, gpuUtilization=80))

    def says(words: str) -> None:
        eventually(
            lambda: words in kubernetes.condition(name, "ScalingActive").get("message", ""), told(kubernetes, name)
        )

    says("is not ready")
    runs(kubernetes, name)
    says("no octavo_gpu_utilization_ratio (spec.autoscaling.targets.gpuUtilization): pod")
    says("has no GPU")
    assert kubernetes.condition(name, "ScalingActive")["reason"] == "NoMetric"
    eventually(lambda: "has no GPU" in kubernetes.kubectl("describe", "hpa", name), "the autoscaler hears it too")


def test_nobody_asks_but_by_way_of_the_api_server(
    operator: Operator, way: None, kubernetes: Kubernetes, api_server: Any, name: str, pods: Pods, metrics_api_port: int
) -> None:
    pods.say(requests_running=3.0)
    kubernetes.apply(name, spec(pods, runningRequests=4))
    runs(kubernetes, name)
    path = f"{METRICS}/octavo_requests_running"
    eventually(
        lambda: '"value":"3"' in kubernetes.kubectl("get", "--raw", path, check=False).replace(" ", ""),
        told(kubernetes, name),
    )
    for url, status in ((f"{api_server.url}{path}", 403), (f"https://127.0.0.1:{metrics_api_port}{path}", 401)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, context=ssl._create_unverified_context())
        assert refused.value.code == status, url
        refused.value.close()


def test_the_api_goes_with_the_chart(
    operator: Operator, way: None, kubernetes: Kubernetes, name: str, pods: Pods
) -> None:
    kubernetes.apply(name, spec(pods, queueDepth=2))
    api = "v1beta2.custom.metrics.k8s.io"
    live = eventually(lambda: kubernetes.get("apiservice", api), "it is registered")
    (owner,) = live["metadata"]["ownerReferences"]
    role = kubernetes.get("clusterrole", owner["name"]) or {}
    assert owner["uid"] == role["metadata"]["uid"]
    assert role["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
