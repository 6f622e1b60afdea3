"""helm install, upgrade, rollback and uninstall, from a chart of an earlier day to this one and back. No node runs the
operator's pod: what a service has made is made by hand."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import CHART
from live import Kubernetes, client, helm_program

pytestmark = pytest.mark.cluster

DEFINITION = "llmservices.serving.octavo.dev"
PLACES = {"cluster-wide": [], "namespaced": ["team-a", "team-b"]}
# What the earlier chart does not know.
NEWER_FIELDS = ("nodeSelector", "tolerations", "suspend")
NEWER_VALUES = ("imageRegistry", "metricsApi", "monitoring", "podDefaults", "rollouts", "replicas", "networkPolicy")
PLACED = {"model": {"uri": "builtin://smollm2"}, "nodeSelector": {"pool": "llm"}}

Helm = Callable[..., str]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The chart as it was: an older version, fewer values, and a definition of fewer fields."""
    chart = shutil.copytree(CHART, tmp_path / "octavo")
    about = yaml.safe_load((chart / "Chart.yaml").read_text()) | {"version": "0.0.9", "appVersion": "0.0.9"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    values = yaml.safe_load((chart / "values.yaml").read_text())
    (chart / "values.yaml").write_text(
        yaml.safe_dump({name: value for name, value in values.items() if name not in NEWER_VALUES})
    )
    template = (chart / "templates/crds.yaml").read_text().splitlines()
    head, tail = template[:3], template[-1:]
    definition = yaml.safe_load("\n".join(template[3:-1]))
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for field in NEWER_FIELDS:
        del spec["properties"][field]
    (chart / "templates/crds.yaml").write_text("\n".join([*head, yaml.safe_dump(definition), *tail]) + "\n")
    return chart


@pytest.fixture
def cluster(own_api_server: Any) -> Iterator[Kubernetes]:
    with client(own_api_server) as api:
        yield Kubernetes(own_api_server.kubectl, api)


@pytest.fixture(params=PLACES)
def helm(own_api_server: Any, cluster: Kubernetes, request: pytest.FixtureRequest) -> Iterator[Helm]:
    """Helm on a namespace of the test's own; `helm.settings` are those of the place."""
    namespace = f"octavo-{request.param}"
    for name in (namespace, *PLACES[request.param]):
        cluster.kubectl("create", "namespace", name)
    environment = os.environ | {"KUBECONFIG": str(own_api_server.folder / "admin.kubeconfig")}

    def run(*arguments: str | Path, check: bool = True) -> str:
        command = [helm_program(), *arguments, f"--namespace={namespace}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout + done.stderr

    yield run
    run("uninstall", "octavo", "--ignore-not-found")
    cluster.kubectl("delete", "crd", DEFINITION, "--ignore-not-found")
    for name in (namespace, *PLACES[request.param]):
        cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def place(request: pytest.FixtureRequest) -> list[str]:
    """The namespaces that the release serves."""
    return PLACES[request.node.callspec.params["helm"]]


def served(cluster: Kubernetes, namespace: str, spec: dict[str, Any]) -> None:
    metadata = {"name": "chat", "namespace": namespace}
    document = {"apiVersion": "serving.octavo.dev/v1alpha1", "kind": "LLMService", "metadata": metadata, "spec": spec}
    cluster.kubectl("apply", "-f", "-", document=json.dumps(document))


def operator(cluster: Kubernetes) -> dict[str, Any]:
    """The operator's Deployment, of whichever namespace."""
    listed = cluster.kubectl("get", "deployments", "--all-namespaces", "-o", "json")
    (found,) = [
        item
        for item in json.loads(listed)["items"]
        if item["metadata"]["labels"].get("app.kubernetes.io/name") == "octavo-operator"
    ]
    return dict(found)


def image(deployment: dict[str, Any]) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def known_fields(cluster: Kubernetes) -> set[str]:
    definition = cluster.get("crd", DEFINITION) or {}
    return set(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])


def test_a_release_is_upgraded_with_its_values_rolled_back_and_uninstalled(
    helm: Helm, cluster: Kubernetes, earlier: Path, place: list[str]
) -> None:
    home = place[0] if place else "default"
    settings = [f"--set-json=namespaces={json.dumps(place)}", "--set=logLevel=debug", "--set=image.tag="]
    helm("install", "octavo", earlier, *settings)
    first = operator(cluster)
    assert image(first) == "octavo/operator:0.0.9"
    assert known_fields(cluster).isdisjoint(NEWER_FIELDS)
    served(cluster, home, {"model": {"uri": "builtin://smollm2"}})
    made = cluster.kubectl("get", "llmservice", "chat", "-n", home, "-o", "jsonpath={.metadata.uid}")

    helm("upgrade", "octavo", CHART, "--reuse-values", "--set=replicas=2")
    second = operator(cluster)
    assert (image(second), second["spec"]["replicas"]) == ("octavo/operator:0.1.0", 2)
    environment = {
        item["name"]: item.get("value") for item in second["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert environment["OCTAVO_LOG_LEVEL"] == "debug", "what was set stays set"
    assert (environment["OCTAVO_NAMESPACES"] or "") == ",".join(place)
    assert ("OCTAVO_METRICS_API" in environment) is not bool(place), "what was not known is as by default"
    assert set(NEWER_FIELDS) <= known_fields(cluster), "the definition is upgraded too"
    served(cluster, home, PLACED)
    field = ("get", "llmservice", "chat", "-n", home, "-o", "jsonpath={.spec.nodeSelector.pool}")
    assert cluster.kubectl(*field) == "llm"

    helm("rollback", "octavo", "1")
    third = operator(cluster)
    assert (image(third), third["spec"]["replicas"]) == ("octavo/operator:0.0.9", 1)
    assert third["spec"]["template"]["spec"] == first["spec"]["template"]["spec"]
    assert third["spec"]["strategy"] == first["spec"]["strategy"]
    assert cluster.kubectl(*field) == "", "a field that the earlier definition does not know is not shown"
    helm("upgrade", "octavo", CHART, "--reset-then-reuse-values")
    assert cluster.kubectl(*field) == "llm", "and is there again, where nobody has written the service meanwhile"

    helm("uninstall", "octavo")
    uid = cluster.kubectl("get", "llmservice", "chat", "-n", home, "-o", "jsonpath={.metadata.uid}")
    assert uid == made, "services outlive the chart"
    selector = "app.kubernetes.io/instance=octavo"
    kinds = (
        "deployments,services,secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,configmaps"
    )
    assert "No resources found" in cluster.kubectl("get", kinds, "--all-namespaces", f"--selector={selector}")

    helm("install", "octavo", CHART, *settings)
    assert cluster.kubectl("get", "llmservice", "chat", "-n", home, "-o", "jsonpath={.metadata.uid}") == made
