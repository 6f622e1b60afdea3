"""What the chart makes for the Prometheus operator, held to that operator's own definitions."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from chart import CHART
from foreign import definition
from live import Kubernetes, helm_program
from patience import eventually

pytestmark = pytest.mark.cluster

MODULE = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
MONITORS = ("podmonitors", "prometheusrules")


@pytest.fixture(scope="module")
def definitions() -> list[Path]:
    """The definitions of PodMonitor and PrometheusRule."""
    folder = "example/prometheus-operator-crd"
    return [definition(MODULE, f"{folder}/monitoring.coreos.com_{plural}.yaml") for plural in MONITORS]


def test_they_come_with_the_next_upgrade_and_are_accepted(
    api_server: Any, kubernetes: Kubernetes, definitions: list[Path]
) -> None:
    environment = os.environ | {"KUBECONFIG": str(api_server.folder / "admin.kubeconfig")}
    release = ("watched", str(CHART), "--namespace=watched", "--create-namespace", "--set=crds.enabled=false")

    def helm(*arguments: str) -> None:
        done = subprocess.run([helm_program(), *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def made() -> dict[str, set[str]]:
        names = {
            plural: kubernetes.kubectl("get", plural, "-n", "watched", "-o", "name").split() for plural in MONITORS
        }
        return {plural: {name.partition("/")[2] for name in found} for plural, found in names.items()}

    settings = ("--set=metricsApi.enabled=false", "--set=namespaces={watched}")
    helm("install", *release, *settings)
    try:
        for file in definitions:
            kubernetes.kubectl("create", "-f", str(file))
        eventually(lambda: "error" not in kubernetes.kubectl("get", ",".join(MONITORS), "-A", check=False), "kinds")
        helm("upgrade", *release, *settings)
        assert made() == {"podmonitors": {"watched-services", "watched-operator"}, "prometheusrules": {"watched"}}
        rule = kubernetes.kubectl("get", "prometheusrule", "watched", "-n", "watched", "-o", "json")
        groups = json.loads(rule)["spec"]["groups"]
        assert {group["name"] for group in groups} >= {"octavo-services", "octavo-slo", "octavo-alerts"}
        monitor = json.loads(kubernetes.kubectl("get", "podmonitor", "watched-services", "-n", "watched", "-o", "json"))
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert [rule["targetLabel"] for rule in endpoint["relabelings"][2:]] == ["__scheme__", "llmservice"]
    finally:
        helm("uninstall", "watched", "--namespace=watched")
        for file in definitions:
            kubernetes.kubectl("delete", "-f", str(file), check=False)
