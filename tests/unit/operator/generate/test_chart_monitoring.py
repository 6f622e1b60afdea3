"""What the chart brings for Prometheus and Grafana."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from built import pod
from chart import HELM, of_kind, rendered
from pydantic.alias_generators import to_snake

from octavo_operator.kinds import SERVICE_LABEL
from octavo_operator.resources.pod_template import CONTAINER

DOCS = Path(__file__).parents[4] / "docs"
KINDS = ("monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule")

pytestmark = pytest.mark.skipif(HELM is None, reason="no helm (set OCTAVO_BIN to its folder)")


def made(*settings: str, knows: tuple[str, ...] = KINDS) -> list[str]:
    documents = rendered(*settings, knows=knows)
    return sorted(document["kind"] for document in documents if document["apiVersion"] == "monitoring.coreos.com/v1")


def test_the_prometheus_operators_objects_are_there_where_their_kinds_are_known() -> None:
    everything = ["PodMonitor", "PodMonitor", "PrometheusRule"]
    assert made() == everything
    assert made(knows=()) == []
    assert made("monitoring.enabled=false") == []
    assert made("monitoring.enabled=true", knows=()) == everything
    assert made("monitoring.rules=false") == ["PodMonitor", "PodMonitor"]


def test_they_take_the_labels_that_a_prometheus_looks_for() -> None:
    documents = rendered("monitoring.labels.release=kube-prometheus-stack", knows=KINDS)
    found = [*of_kind(documents, "PodMonitor"), *of_kind(documents, "PrometheusRule")]
    assert {item["metadata"]["labels"]["release"] for item in found} == {"kube-prometheus-stack"}


def services_monitor(*settings: str) -> dict[str, Any]:
    monitors = of_kind(rendered(*settings, knows=KINDS), "PodMonitor")
    (found,) = [item["spec"] for item in monitors if item["metadata"]["name"] == "octavo-services"]
    return dict(found)


def test_pods_are_looked_for_where_services_are_served() -> None:
    assert services_monitor()["namespaceSelector"] == {"any": True}
    assert services_monitor("namespaces={one,two}")["namespaceSelector"] == {"matchNames": ["one", "two"]}


def test_the_pods_of_a_service_are_those_that_are_looked_for() -> None:
    (expression,) = services_monitor()["selector"]["matchExpressions"]
    assert expression == {"key": SERVICE_LABEL, "operator": "Exists"}
    endpoints = services_monitor()["podMetricsEndpoints"]
    (container,) = pod(endpoint={"allowedNamespaces": []})["containers"]
    assert container["name"] == CONTAINER
    assert [port["name"] for port in container["ports"]] == [endpoint["port"] for endpoint in endpoints]
    label = re.sub(r"\W", "_", SERVICE_LABEL)
    for endpoint in endpoints:
        assert [f"__meta_kubernetes_pod_label_{label}"] in [rule["sourceLabels"] for rule in endpoint["relabelings"]]


def test_the_operators_own_labels_are_honoured() -> None:
    documents = rendered(knows=KINDS)
    (monitor,) = [item for item in of_kind(documents, "PodMonitor") if item["metadata"]["name"] == "octavo-operator"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True
    (deployment,) = of_kind(documents, "Deployment")
    template = deployment["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert endpoint["port"] in [port["name"] for port in template["spec"]["containers"][0]["ports"]]


def test_the_page_scrapes_as_the_pod_monitors_do() -> None:
    """A Prometheus without its operator is configured by hand, from docs/monitoring.md."""
    (block,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", (DOCS / "monitoring.md").read_text(), re.DOTALL)
    services, operator = yaml.safe_load(block)["scrape_configs"]
    endpoint, other = services_monitor()["podMetricsEndpoints"]
    assert endpoint["relabelings"] == other["relabelings"]
    by_hand = [{to_snake(key): value for key, value in rule.items()} for rule in endpoint["relabelings"]]
    assert [rule for rule in by_hand if rule not in services["relabel_configs"]] == []
    assert operator["honor_labels"] is True


def test_each_alert_leads_to_its_runbook() -> None:
    documents = rendered("monitoring.runbooks=https://wiki/runbooks", knows=KINDS)
    (rule,) = of_kind(documents, "PrometheusRule")
    alerts = [item for group in rule["spec"]["groups"] for item in group["rules"] if "alert" in item]
    headings = re.findall(r"^## (\w+)$", (DOCS / "runbooks.md").read_text(), re.MULTILINE)
    assert alerts
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"https://wiki/runbooks#{alert['alert'].lower()}"
    assert set(headings) == {alert["alert"] for alert in alerts}, "a section each, and no other"


def test_dashboards_come_in_config_maps_for_grafanas_sidecar() -> None:
    maps = of_kind(rendered(), "ConfigMap")
    assert {item["metadata"]["name"] for item in maps} == {"octavo-dashboard-fleet", "octavo-dashboard-service"}
    for item in maps:
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
        (text,) = item["data"].values()
        assert json.loads(text)["panels"]
    assert of_kind(rendered("monitoring.dashboards=false"), "ConfigMap") == []
