"""The chart as Helm renders it."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from octavo_operator.settings import Settings

CHART = Path(__file__).parents[4] / "charts" / "octavo"
FOLDERS = [os.environ.get("OCTAVO_BIN", ""), str(Path.home() / ".cache/octavo/bin"), os.environ["PATH"]]
HELM = shutil.which("helm", path=os.pathsep.join(FOLDERS))

pytestmark = pytest.mark.skipif(HELM is None, reason="no helm (set OCTAVO_BIN to its folder)")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(HELM), *arguments], capture_output=True, text=True)


def rendered(*settings: str) -> list[dict[str, Any]]:
    flags = [word for setting in settings for word in ("--set", setting)]
    done = helm("template", "octavo", str(CHART), "--namespace=octavo-system", *flags)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def test_lint_is_clean() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_definition_is_kept_and_can_be_left_out() -> None:
    (definition,) = of_kind(rendered(), "CustomResourceDefinition")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert of_kind(rendered("crds.enabled=false"), "CustomResourceDefinition") == []


@pytest.mark.parametrize("settings", [(), ("namespaces={one,two}",)])
def test_every_right_is_named(settings: tuple[str, ...]) -> None:
    roles = [document for document in rendered(*settings) if document["kind"] in ("Role", "ClusterRole")]
    rules = [rule for role in roles for rule in role["rules"]]
    assert rules
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        if "secrets" in rule["resources"]:
            assert rule["resourceNames"] == ["octavo-metrics-api"], "its own alone"


def test_people_who_may_view_or_edit_a_namespace_may_do_so_with_its_services() -> None:
    roles = of_kind(rendered("namespaces={one}"), "ClusterRole")
    aggregated = {
        role["metadata"]["name"].rpartition("-")[2]: {
            label.rpartition("-")[2] for label in role["metadata"]["labels"] if "aggregate-to" in label
        }
        for role in roles
    }
    assert aggregated == {"view": {"view", "edit", "admin"}, "edit": {"edit", "admin"}}
    for role in roles:
        for rule in role["rules"]:
            assert rule["verbs"] == ["get", "list", "watch"] or "llmservices/status" not in rule["resources"]


def test_operator_for_some_namespaces_has_no_right_on_the_cluster() -> None:
    documents = rendered("namespaces={one,two}", "crds.enabled=false")
    assert of_kind(documents, "ClusterRole") == of_kind(documents, "ClusterRoleBinding") == []
    assert of_kind(rendered("namespaces={one,two}"), "ClusterRoleBinding") == []
    roles = [role for role in of_kind(documents, "Role") if "annotations" not in role["metadata"]]
    assert {role["metadata"]["namespace"] for role in roles} == {"one", "two"}


def test_an_operator_for_some_namespaces_serves_the_metrics_api_on_request_alone() -> None:
    def roles(*settings: str) -> set[str]:
        return {
            document["metadata"]["name"]
            for document in of_kind(rendered(*settings, "crds.enabled=false"), "ClusterRole")
        }

    assert roles("namespaces={one,two}", "metricsApi.enabled=true") == {"octavo-system-octavo-metrics-api"}
    assert roles("metricsApi.enabled=false") == {"octavo-system-octavo-operator"}
    assert roles() == {"octavo-system-octavo-operator", "octavo-system-octavo-metrics-api"}


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_the_operator_is_told_of_the_metrics_api_where_its_service_is(enabled: str) -> None:
    documents = rendered(f"metricsApi.enabled={enabled}", "prometheus.url=http://prometheus:9090")
    (container,) = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]["containers"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    services = {document["metadata"]["name"] for document in of_kind(documents, "Service")}
    assert environment["OCTAVO_PROMETHEUS_URL"] == "http://prometheus:9090"
    assert environment.get("OCTAVO_METRICS_API", "") == ("octavo-system/octavo-metrics-api" if services else "")
    assert services == ({"octavo-metrics-api"} if enabled == "true" else set())


def test_a_release_of_any_name_has_a_service_of_a_good_one() -> None:
    done = helm("template", "7.b", str(CHART))
    services = of_kind([document for document in yaml.safe_load_all(done.stdout) if document], "Service")
    assert [service["metadata"]["name"] for service in services] == ["octavo-7-b-metrics-api"]


def test_operator_is_locked_down_and_configured() -> None:
    settings = ("runtime.repository=here/demo", "runtime.tag=v7", "propagate.labels={team,cost-center}")
    (deployment,) = of_kind(rendered(*settings), "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    pod = deployment["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False  # OCTAVO_METRICS_API_PORT would be an address, not a setting
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment["OCTAVO_RUNTIME_IMAGE"] == "here/demo:v7"
    assert environment["OCTAVO_PROPAGATE_LABELS"] == "team,cost-center"
    assert environment["OCTAVO_INSTALLATION"] == "octavo-system/octavo"


def test_defaults_of_pods_reach_the_operator_as_they_were_written() -> None:
    (deployment,) = of_kind(
        rendered(
            "podDefaults.nodeSelector.pool=20261128",
            "podDefaults.env[0].name=HTTPS_PROXY",
            "podDefaults.env[0].value=http://proxy:3128",
            "podDefaults.imagePullSecrets[0].name=registry",
            "podDefaults.runtimeClassName=nvidia",
        ),
        "Deployment",
    )
    environment = {
        item["name"]: item["value"] for item in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    settings = Settings(runtime_image="x", pod_defaults=environment["OCTAVO_POD_DEFAULTS"])
    assert settings.pod_defaults == {
        "nodeSelector": {"pool": "20261128"},
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "imagePullSecrets": [{"name": "registry"}],
        "runtimeClassName": "nvidia",
    }


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicas=2", "replicas"),
        ("resync=soon", "/resync"),
        ("logLevel=loud", "/logLevel"),
        ("metricsApi.enabled=maybe", "/metricsApi/enabled"),
        ("podDefaults.env[0].value=x", "name"),
    ],
)
def test_wrong_value_is_refused(setting: str, words: str) -> None:
    done = helm("template", "octavo", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert words in done.stderr
