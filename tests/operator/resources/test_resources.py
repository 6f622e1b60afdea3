"""The builders: what a service becomes."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from octavo_operator import api, resources
from octavo_operator.kinds import KINDS, owned
from octavo_operator.resources import dashboard, pod_template
from octavo_operator.settings import Settings
from octavo_runtime.config import EngineConfig, ServerConfig
from octavo_runtime.metrics import METRICS

SETTINGS = Settings(runtime_image="octavo/runtime:1")


def service(name: str = "chat", **spec: Any) -> api.LLMService:
    metadata = {"namespace": "default", "name": name, "uid": "u1", "generation": 1}
    return api.parse({"metadata": metadata, "spec": {"model": {"uri": "builtin://smollm2"}} | spec})


def built(kind: str, **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in resources.build(service(**spec), SETTINGS) if item["kind"] == kind)
    return found


def pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = built("Deployment", **spec)["spec"]["template"]["spec"]
    return found


def engine(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod(**spec)["containers"][0]
    return found


def kinds(**spec: Any) -> set[str]:
    return {item["kind"] for item in resources.build(service(**spec), SETTINGS)}


ALWAYS = {"ServiceAccount", "Service", "PodDisruptionBudget", "Deployment"}


def test_features_decide_which_objects_there_are() -> None:
    assert kinds() == ALWAYS | {"ConfigMap"}
    assert kinds(observability={"dashboard": False}) == ALWAYS
    assert kinds(autoscaling={"maxReplicas": 3}) == ALWAYS | {"ConfigMap", "HorizontalPodAutoscaler"}


def test_every_object_is_owned_labelled_and_observed() -> None:
    objects = resources.build(service(autoscaling={"maxReplicas": 3}), SETTINGS)
    for item in objects:
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("LLMService", "u1", True)
        assert item["metadata"]["labels"]["serving.octavo.dev/service"] == "chat"
    assert [(item["kind"], item["metadata"]["name"]) for item in objects] == owned("chat"), "in this order"


def test_every_object_is_of_the_version_that_is_watched_and_asked_for() -> None:
    versions = {kind.name: f"{kind.group}/{kind.version}".removeprefix("/") for kind in KINDS}
    for item in resources.build(service(autoscaling={"maxReplicas": 3}), SETTINGS):
        assert item["apiVersion"] == versions[item["kind"]]


def test_container_runs_the_spec() -> None:
    arguments = engine(
        model={"uri": "hf://owner/name", "servedNames": ["a", "b"]},
        engine={"maxModelLen": 512, "kvCacheMemory": "256Mi"},
        rollout={"drain": "90s"},
    )["args"]
    assert " ".join(arguments) == (
        "serve hf://owner/name --host :: --port 8000 --device cpu --served-name a --served-name b --drain 90s "
        "--log-format json "
        "--max-model-len 512 --kv-cache-memory 256Mi"
    )


def test_flags_are_those_of_octavo_serve() -> None:
    settings = {
        "maxModelLen": 512,
        "maxNumSeqs": 8,
        "blockSize": 32,
        "kvCacheMemory": "1Gi",
        "seed": 7,
        "dtype": "float32",
        "logStats": True,
        "enablePrefixCaching": False,
    }
    flags = [word for word in engine(engine=settings)["args"] if word.startswith("--")]
    known = {"--" + name.replace("_", "-") for model in (EngineConfig, ServerConfig) for name in model.model_fields}
    assert set(flags) - known == {"--no-enable-prefix-caching"}
    assert {"--max-model-len", "--max-num-seqs", "--block-size", "--kv-cache-memory", "--seed", "--dtype"} <= set(flags)
    assert "--log-stats" in flags


def test_a_value_beside_a_preset_reaches_the_engine_even_where_it_is_the_default() -> None:
    arguments = engine(engine={"preset": "throughput", "maxNumSeqs": 64})["args"]
    assert arguments[-4:] == ["--preset", "throughput", "--max-num-seqs", "64"]


def test_gpu_is_requested_and_used() -> None:
    container = engine(accelerator={"type": "nvidia"}, resources={"cpu": "4", "memory": "16Gi"})
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert container["resources"]["requests"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert "--device cuda" in " ".join(container["args"])


def test_cpu_is_promised_and_not_capped() -> None:
    container = engine(resources={"cpu": "500m", "memory": "1Gi"})
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


@pytest.mark.parametrize(
    ("uri", "folder"), [("pvc://models/llama/8b", "file:///models/llama/8b"), ("pvc://models", "file:///models")]
)
def test_claim_is_mounted_read_only(uri: str, folder: str) -> None:
    spec = pod(model={"uri": uri})
    assert {"name": "model", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}} in spec["volumes"]
    (container,) = spec["containers"]
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert container["args"][1] == folder


def test_token_comes_from_the_secret() -> None:
    environment = engine(model={"uri": "hf://owner/name", "tokenSecret": {"name": "hf"}})["env"]
    reference = {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert {"name": "HF_TOKEN", "valueFrom": reference} in environment


SECURED = {
    "apiKeysSecret": {"name": "chat-keys"},
    "tlsSecret": {"name": "chat-tls"},
    "rateLimit": {"requestsPerMinute": 600, "maxConcurrentRequests": 8},
}


def test_keys_and_certificate_are_read_from_secrets_that_may_change() -> None:
    spec = pod(endpoint=SECURED)
    (container,) = spec["containers"]
    for name, secret, path in (
        ("api-keys", "chat-keys", "/etc/octavo/api-keys"),
        ("tls", "chat-tls", "/etc/octavo/tls"),
    ):
        assert {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}} in spec["volumes"]
        # A subPath would never be refreshed.
        assert {"name": name, "mountPath": path, "readOnly": True} in container["volumeMounts"]
    words = " ".join(container["args"])
    assert "--api-key-file /etc/octavo/api-keys" in words
    assert "--tls-cert /etc/octavo/tls/tls.crt --tls-key /etc/octavo/tls/tls.key" in words
    assert "--requests-per-minute 600 --max-concurrent-requests 8" in words
    assert "--tokens-per-minute" not in words
    flags = {word for word in container["args"] if word.startswith("--")}
    assert flags <= {
        "--" + name.replace("_", "-") for model in (EngineConfig, ServerConfig) for name in model.model_fields
    }
    assert not {"--api-key-file", "--tls-cert", "--requests-per-minute"} & set(engine()["args"])


@pytest.mark.parametrize(("endpoint", "scheme"), [({}, "HTTP"), (SECURED, "HTTPS")])
def test_probes_and_prometheus_speak_as_the_server_does(endpoint: dict[str, Any], scheme: str) -> None:
    template = built("Deployment", endpoint=endpoint)["spec"]["template"]
    (container,) = template["spec"]["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["scheme"] == scheme
    assert template["metadata"]["annotations"]["prometheus.io/scheme"] == scheme.lower()


def test_pod_is_locked_down() -> None:
    spec = pod()
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, 10001)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert writable == {"/tmp", "/var/cache/octavo", "/dev/shm"}


@pytest.mark.parametrize(("drain", "seconds"), [("300s", 300), ("5m", 300), ("500ms", 1), ("0s", 0)])
def test_grace_period_outlasts_the_drain(drain: str, seconds: int) -> None:
    spec = pod(rollout={"drain": drain})
    pre_stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pre_stop + seconds < spec["terminationGracePeriodSeconds"] <= pre_stop + seconds + 30


def test_probes_restart_a_dead_engine_but_not_a_loading_one() -> None:
    container = engine()
    assert container["startupProbe"]["httpGet"]["path"] == "/health/live"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def test_replicas_are_left_to_the_autoscaler() -> None:
    assert built("Deployment")["spec"]["replicas"] == 1
    assert built("Deployment", replicas=0)["spec"]["replicas"] == 0
    assert "replicas" not in built("Deployment", autoscaling={"maxReplicas": 3})["spec"]


@pytest.mark.parametrize(
    ("spec", "unavailable", "surge"),
    [
        ({}, 0, 1),
        ({"replicas": 4}, 0, 1),
        ({"accelerator": {"type": "nvidia"}}, 0, 1),
        ({"accelerator": {"type": "nvidia"}, "replicas": 2}, 1, 0),
        ({"accelerator": {"type": "nvidia"}, "autoscaling": {"maxReplicas": 4}}, 0, 1),
        ({"accelerator": {"type": "nvidia"}, "autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, 1, 0),
    ],
)
def test_rolling_update(spec: dict[str, Any], unavailable: int, surge: int) -> None:
    update = built("Deployment", **spec)["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxUnavailable": unavailable, "maxSurge": surge}


def test_autoscaler() -> None:
    spec = built("HorizontalPodAutoscaler", autoscaling={"maxReplicas": 3, "targets": {"cpuUtilization": 70}})["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
    assert spec["metrics"][0]["containerResource"] == {
        "name": "cpu",
        "container": "engine",
        "target": {"type": "Utilization", "averageUtilization": 70},
    }
    assert spec["behavior"]["scaleUp"] == {
        "stabilizationWindowSeconds": 60,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}],
    }
    assert spec["behavior"]["scaleDown"] == {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    }


def test_pod_template_is_laid_over() -> None:
    over = {
        "metadata": {"labels": {"team": "search", "serving.octavo.dev/service": "stolen"}},
        "spec": {
            "nodeSelector": {"gpu": "h200"},
            "containers": [
                {"name": "engine", "env": [{"name": "HF_ENDPOINT", "value": "https://hub"}], "args": ["serve", "x"]},
                {"name": "sidecar", "image": "proxy:1"},
            ],
        },
    }
    template = built("Deployment", podTemplate=over)["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert (labels["team"], labels["serving.octavo.dev/service"]) == ("search", "chat")
    container, sidecar = template["spec"]["containers"]
    assert {item["name"] for item in container["env"]} == {"HOME", "HF_HOME", "HF_ENDPOINT"}
    assert container["args"] == ["serve", "x"]
    assert sidecar == {"name": "sidecar", "image": "proxy:1"}
    assert template["spec"]["nodeSelector"] == {"gpu": "h200"}
    assert container["image"] == "octavo/runtime:1"


def test_merge_replaces_what_has_no_name() -> None:
    assert pod_template.merge({"a": [1, 2], "b": {"c": 1}}, {"a": [3], "b": {"d": 2}}) == {
        "a": [3],
        "b": {"c": 1, "d": 2},
    }


def test_dashboard_shows_this_service_alone() -> None:
    config = built("ConfigMap")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    (content,) = config["data"].values()
    board = json.loads(content)
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert expressions
    for expression in expressions:
        assert '{namespace="default",pod=~"chat-[^-]+-[^-]+"}' in expression
        assert expression.count("(") == expression.count(")")
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)


def test_dashboard_queries_fit_the_type_of_the_metric() -> None:
    board = dashboard.dashboard(service())
    expressions = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    for metric in METRICS:
        if metric.name not in expressions:
            continue
        if metric.type == "counter":
            assert f"rate({metric.name}{{" in expressions
        elif metric.type == "histogram":
            assert f"rate({metric.name}_bucket{{" in expressions
        else:
            assert f"rate({metric.name}" not in expressions


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_dashboard_queries_are_promql(tmp_path: Path) -> None:
    board = dashboard.dashboard(service())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"panel:{index}", "expr": expression.replace("$__rate_interval", "1m")}
        for index, expression in enumerate(expressions)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
