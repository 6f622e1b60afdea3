"""The chart as Helm renders it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from built import built, service
from chart import CHART, HELM, helm, of_kind, rendered

from octavo_operator.control.leadership import LEADER
from octavo_operator.resources import model_reading
from octavo_operator.settings import Settings

pytestmark = pytest.mark.skipif(HELM is None, reason="no helm (set OCTAVO_BIN to its folder)")


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


def test_one_replica_elects_nobody_and_two_elect_one() -> None:
    alone, pair = rendered(), rendered("replicas=2")
    (one,), (two,) = of_kind(alone, "Deployment"), of_kind(pair, "Deployment")
    assert (one["spec"]["replicas"], one["spec"]["strategy"]) == (1, {"type": "Recreate"})
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert (two["spec"]["replicas"], two["spec"]["strategy"]) == (2, rolling)
    environment = two["spec"]["template"]["spec"]["containers"][0]["env"]
    (lease,) = (item["value"] for item in environment if item["name"] == "OCTAVO_LEADER_LEASE")
    (role,) = (item for item in of_kind(pair, "Role") if item["metadata"]["name"].endswith("-leader"))
    assert [f"octavo-system/{name}" for rule in role["rules"] for name in rule.get("resourceNames", [])] == [lease]
    assert of_kind(pair, "Service")[0]["spec"]["selector"][LEADER] == "true"
    assert LEADER not in of_kind(alone, "Service")[0]["spec"]["selector"]
    assert "-leader" not in yaml.safe_dump_all(alone)


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


@pytest.mark.parametrize("settings", [(), ("namespaces={one,two}", "replicas=2", "metricsApi.enabled=true")])
def test_values_that_an_older_chart_did_not_know_are_as_by_default(settings: tuple[str, ...], tmp_path: Path) -> None:
    """`helm upgrade --reuse-values` takes the older chart's values for the whole."""
    bare = shutil.copytree(CHART, tmp_path / "octavo")
    (bare / "values.yaml").write_text("metricsApi: {}\nmonitoring: {rules: true}\n")
    knows = ("monitoring.coreos.com/v1/PodMonitor", "monitoring.coreos.com/v1/PrometheusRule")
    assert rendered(*settings, knows=knows, chart=bare) == rendered(*settings, knows=knows)


def test_what_a_user_takes_away_or_turns_off_stays_so() -> None:
    (deployment,) = of_kind(rendered("resources.limits=null", "affinity=null", "namespaces=null"), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "limits" not in container["resources"]
    assert of_kind(rendered("monitoring.dashboards=false"), "ConfigMap") == []


@pytest.mark.parametrize(
    "setting", ["imageRegistry=registry.example.com/mirror/", "global.imageRegistry=10.0.0.1:5000"]
)
def test_every_image_is_of_the_registry_that_is_named(setting: str) -> None:
    """Of the operator, of its own test, and of the pods of services."""
    registry = setting.partition("=")[2].rstrip("/")
    offline = ("podDefaults.env[0].name=HF_HUB_OFFLINE", "podDefaults.env[0].value=1")
    objects = rendered(setting, "runtime.tag=v7", *offline)
    pods = [item["spec"]["template"]["spec"] for item in of_kind(objects, "Deployment")]
    pods += [item["spec"] for item in of_kind(objects, "Pod")]
    containers = [container for pod in pods for container in pod["containers"] + pod.get("initContainers", [])]
    assert len(containers) == 2
    assert {container["image"] for container in containers} == {f"{registry}/octavo/operator:0.1.0"}
    said = {item["name"]: item["value"] for item in pods[0]["containers"][0]["env"]}
    settings = Settings(runtime_image=said["OCTAVO_RUNTIME_IMAGE"], pod_defaults=said["OCTAVO_POD_DEFAULTS"])
    for kind in ("Deployment", "Job"):
        for source in ("hf://a/b", "pvc://models/a"):
            (container,) = pod_of(kind, settings, model={"uri": source})["containers"]
            assert container["image"] == f"{registry}/octavo/runtime:v7"
            assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container["env"]


def pod_of(kind: str, settings: Settings, **spec: Any) -> dict[str, Any]:
    """The pod of a service, or of the Job that reads its model."""
    template = built("Deployment", settings, **spec)["spec"]["template"]
    if kind == "Job":
        template = model_reading.build(service(**spec), settings, template)["spec"]["template"]
    found: dict[str, Any] = template["spec"]
    return found


def test_the_webhook_is_off_by_default_and_asked_about_served_namespaces_alone() -> None:
    assert of_kind(rendered(), "ValidatingWebhookConfiguration") == []
    (everywhere,) = of_kind(rendered("webhook.enabled=true"), "ValidatingWebhookConfiguration")
    (hook,) = everywhere["webhooks"]
    assert (hook["failurePolicy"], hook["sideEffects"]) == ("Ignore", "None")
    assert "namespaceSelector" not in hook
    objects = rendered("webhook.enabled=true", "webhook.failurePolicy=Fail", "namespaces={one,two}", "replicas=2")
    ((hook,),) = [each["webhooks"] for each in of_kind(objects, "ValidatingWebhookConfiguration")]
    assert hook["failurePolicy"] == "Fail"
    assert hook["namespaceSelector"]["matchExpressions"] == [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["one", "two"]}
    ]
    (service,) = [each for each in of_kind(objects, "Service") if each["metadata"]["name"] == "octavo-webhook"]
    assert LEADER not in service["spec"]["selector"], "every replica answers"
    rules = [rule for role in of_kind(objects, "ClusterRole") for rule in role["rules"]]
    (rule,) = [rule for rule in rules if "validatingwebhookconfigurations" in rule["resources"]]
    assert rule["resourceNames"] == ["octavo-system-octavo-webhook"]
    assert hook["clientConfig"]["service"]["name"] == service["metadata"]["name"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replicas=9", "replicas"),
        ("resync=soon", "/resync"),
        ("logLevel=loud", "/logLevel"),
        ("metricsApi.enabled=maybe", "/metricsApi/enabled"),
        ("podDefaults.env[0].value=x", "name"),
        ("webhook.failurePolicy=Perhaps", "/webhook/failurePolicy"),
        ("namespaces={team-a,Team_B}", "/namespaces/1"),
    ],
)
def test_wrong_value_is_refused(setting: str, words: str) -> None:
    done = helm("template", "octavo", str(CHART), "--set", setting)
    assert done.returncode != 0
    assert words in done.stderr
