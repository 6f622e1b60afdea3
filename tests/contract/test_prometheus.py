"""A real Prometheus scrapes the real engine under load: every query of every panel and of every rule has an answer.

Two stand-ins: for the GPU's metrics, which NVIDIA's library brings on a machine that has one, and for the operator,
whose metrics its own code makes here without a cluster. The scrape configuration is that of docs/monitoring.md, with a
list of targets in the place of Kubernetes' own; the rules are those of the chart, at shorter intervals.
"""

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import httpx
import pytest
import yaml
from live import free_port
from patience import PATIENCE, eventually
from prometheus import program
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from octavo_operator.api import parse
from octavo_operator.control.service_metrics import ServiceMetrics
from octavo_operator.status import conditions
from octavo_operator.status.observation import Observation
from octavo_runtime.protocol import metrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "charts" / "octavo" / "monitoring"
INTERVAL = "1s"
CHOSEN = {"$__rate_interval": "30s", "$namespace": "default", "$llmservice": "chat"}
BODY = {"model": "smollm2", "prompt": "Once upon a time, in a land far away, there was", "max_tokens": 12}

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Target:
    """What Kubernetes would say of a pod that listens at `address`."""

    address: str
    pod: str
    labels: dict[str, str]

    def static_config(self) -> dict[str, Any]:
        told = {"namespace": "default", "pod_name": self.pod} | self.labels
        return {"targets": [self.address], "labels": {f"__meta_kubernetes_{name}": text for name, text in told.items()}}


def scrape_configs(services: list[Target], operator: Target) -> list[dict[str, Any]]:
    """Those of the page, with these targets."""
    (block,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", (ROOT / "docs/monitoring.md").read_text(), re.DOTALL)
    configs: list[dict[str, Any]] = yaml.safe_load(block)["scrape_configs"]
    for config, targets in zip(configs, (services, [operator]), strict=True):
        del config["kubernetes_sd_configs"]
        config["static_configs"] = [target.static_config() for target in targets]
        config["scrape_interval"] = INTERVAL
    return configs


def of_service(url: str, pod: str) -> Target:
    labels = {
        "pod_labelpresent_serving_octavo_dev_service": "true",
        "pod_label_serving_octavo_dev_service": "chat",
        "pod_annotation_prometheus_io_scheme": "http",
        "pod_container_name": "engine",
        "pod_container_port_number": "8000",
        "pod_annotation_prometheus_io_port": "8000",
    }
    return Target(url.removeprefix("http://"), pod, labels)


def stand_in_for_gpus() -> tuple[int, WSGIServer]:
    registry = CollectorRegistry()
    for metric, value in ((metrics.GPU_UTILIZATION_RATIO, 0.7), (metrics.GPU_MEMORY_USED_BYTES, 2e9)):
        Gauge(metric.name, metric.help, ("model_name", *metric.labels), registry=registry).labels(
            "smollm2", "0", "GPU-1"
        ).set(value)
    return exposed(registry)


def stand_in_for_the_operator() -> tuple[int, WSGIServer]:
    spec = {"model": {"uri": "builtin://smollm2"}}
    spec |= {"slo": {"ttftP99": "60s", "itlP99": "2s", "availability": "99.9%"}}
    body = {"metadata": {"namespace": "default", "name": "chat", "uid": "u", "generation": 1}, "spec": spec}
    metadata = {"namespace": "default", "name": "chat-1-a", "creationTimestamp": "2026-01-01T00:00:00Z"}
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "engine", "restartCount": 1}],
    }
    pod = {"metadata": metadata, "spec": {"nodeName": "node-0"}, "status": status}
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "chat", "generation": 1, "ownerReferences": [{"uid": "u"}]},
        "spec": {"replicas": 1},
        "status": {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "observedGeneration": 1},
    }
    told = ServiceMetrics()
    seen = Observation(body, parse(body), {("Deployment", "chat"): deployment}, [pod])
    told.tell(seen, conditions.status(seen, None, "2026-01-01T00:00:00Z"))
    registry = CollectorRegistry()
    registry.register(told)
    return exposed(registry)


def exposed(registry: CollectorRegistry) -> tuple[int, WSGIServer]:
    server, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
    return server.server_port, server


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What a query has at this moment."""
        for name, value in CHOSEN.items():
            query = query.replace(name, value)
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, trust_env=False, timeout=PATIENCE)
        assert answer.status_code == 200, f"{query}: {answer.text}"
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def numbers(self, query: str) -> list[float]:
        """The values of its series that are numbers."""
        values = [float(series["value"][1]) for series in self.ask(query)]
        return [value for value in values if value == value]


@pytest.fixture(scope="module")
def prometheus(real: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes an engine, which is busy all the time."""
    folder = tmp_path_factory.mktemp("prometheus")
    gpu_port, gpus = stand_in_for_gpus()
    operator_port, operator = stand_in_for_the_operator()
    services = [of_service(real.url, "chat-1-a"), of_service(f"http://127.0.0.1:{gpu_port}", "chat-1-gpu")]
    told = {"pod_label_app_kubernetes_io_name": "octavo-operator", "pod_container_port_name": "metrics"}
    of_operator = Target(f"127.0.0.1:{operator_port}", "octavo-operator-1-a", told)
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    for group in rules["groups"]:
        group["interval"] = INTERVAL
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    configuration = {
        "global": {"evaluation_interval": INTERVAL},
        "rule_files": ["rules.yaml"],
        "scrape_configs": scrape_configs(services, of_operator),
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=log,
    )
    watching = Prometheus(f"http://127.0.0.1:{port}")
    over = threading.Event()
    with ThreadPoolExecutor(2) as callers:
        try:
            eventually(lambda: is_ready(watching), lambda: (folder / "log").read_text()[-2000:])
            for _ in range(2):
                callers.submit(call, real.url, over.is_set)
            yield watching
        finally:
            over.set()
            process.terminate()
            process.wait(PATIENCE)
            for server in (gpus, operator):
                server.shutdown()
                server.server_close()


def is_ready(prometheus: Prometheus) -> bool:
    try:
        return httpx.get(f"{prometheus.url}/-/ready", trust_env=False, timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def call(url: str, is_over: Callable[[], bool]) -> None:
    """One request after another; now and then a wrong one."""
    while not is_over():
        for change in ({}, {}, {"max_tokens": -1}):
            httpx.post(f"{url}/v1/completions", json=BODY | change, timeout=PATIENCE, trust_env=False)


def board(name: str) -> list[tuple[str, str]]:
    """(panel, query) of all that a dashboard of the chart asks for."""
    panels = json.loads((MONITORING / f"{name}.json").read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("name", ["fleet", "service"])
def test_every_query_of_every_panel_has_numbers(prometheus: Prometheus, name: str) -> None:
    asked = board(name)
    assert len(asked) > 20

    def silent() -> list[tuple[str, str]]:
        return [(panel, query) for panel, query in asked if not prometheus.numbers(query)]

    eventually(lambda: not silent(), lambda: f"numbers from {silent()}")


def test_every_recording_rule_has_numbers(prometheus: Prometheus) -> None:
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    names = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}

    def silent() -> set[str]:
        return {name for name in names if not prometheus.numbers(name)}

    eventually(lambda: not silent(), lambda: f"numbers from {silent()}")
    for name in names:
        for series in prometheus.ask(name):
            labels = series["metric"]
            assert (labels["namespace"], labels["llmservice"]) == ("default", "chat"), labels
    promised = {series["metric"]["slo"] for series in prometheus.ask("llmservice:octavo_slo_failures:rate5m")}
    assert promised == {"ttftP99", "itlP99", "availability"}, "each objective finds the bucket that it names"


def test_every_rule_is_evaluated_and_nothing_calls(prometheus: Prometheus) -> None:
    def told() -> list[dict[str, Any]]:
        answer = httpx.get(f"{prometheus.url}/api/v1/rules", trust_env=False, timeout=PATIENCE).json()
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    eventually(lambda: all(rule["health"] == "ok" for rule in told()), lambda: f"all well: {told()}")
    assert [rule["name"] for rule in told() if rule.get("state") == "firing"] == []


def test_what_prometheus_counts_is_what_was_served(prometheus: Prometheus) -> None:
    def rates() -> dict[str, float]:
        found = prometheus.ask("llmservice:octavo_requests:rate5m")
        return {series["metric"]["status"]: float(series["value"][1]) for series in found}

    eventually(lambda: rates().get("success", 0) > 0 and rates().get("rejected", 0) > 0, rates)
    assert rates()["error"] == 0
    (budget,) = prometheus.numbers('llmservice:octavo_slo_budget_left:ratio30d{slo="availability"}')
    assert budget == 1


def test_a_service_can_be_chosen(prometheus: Prometheus) -> None:
    """What the variables of the dashboards ask for."""
    for name in ("fleet", "service"):
        variables = json.loads((MONITORING / f"{name}.json").read_text())["templating"]["list"]
        for variable in variables[1:]:
            selector, label = re.findall(r"label_values\((.*), (\w+)\)", variable["query"])[0]
            assert {series["metric"][label] for series in prometheus.ask(selector)} == {CHOSEN[f"${label}"]}
