"""The template of the pods."""

from typing import Any

import pytest
from built import SETTINGS, built, engine, pod, service
from pydantic import ValidationError

from octavo_operator.api import InvalidSpec
from octavo_operator.resources import pod_template
from octavo_operator.settings import Settings
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.server import ServerConfig


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


def test_kubernetes_reads_no_variable_in_a_setting() -> None:
    arguments = engine(engine={"chatTemplate": "{{ '$(HOME) $$' }}"})["args"]
    assert arguments[-2:] == ["--chat-template", "{{ '$$(HOME) $$$$' }}"]


def test_extra_arguments_come_after_the_operators_and_before_those_of_the_pod_template() -> None:
    over = {"spec": {"containers": [{"name": "engine", "args": ["--no-ui"]}]}}
    extra = ["--metrics-aliases=vllm", "--otlp-endpoint=http://$(COLLECTOR):4318"]
    arguments = engine(engine={"maxModelLen": 512, "extraArgs": extra}, podTemplate=over)["args"]
    assert arguments[-5:] == ["--max-model-len", "512", *extra, "--no-ui"]


def test_no_argument_that_the_operator_sets_may_be_given_again() -> None:
    endpoint = SECURED | {"rateLimit": {"requestsPerMinute": 1, "tokensPerMinute": 1, "maxConcurrentRequests": 1}}
    settings = {"preset": "latency", "enablePrefixCaching": False}
    written = engine(model={"uri": "builtin://smollm2", "servedNames": ["a"]}, endpoint=endpoint, engine=settings)
    flags = [word for word in written["args"] if word.startswith("--")]
    assert len(flags) == 14
    for flag in flags:
        with pytest.raises(InvalidSpec, match=rf"extraArgs.0: .*got {flag}$"):
            engine(engine={"extraArgs": [f"{flag}=1"]})


def test_a_variable_takes_the_place_of_the_operators_and_gives_way_to_the_pod_templates() -> None:
    over = {"spec": {"containers": [{"name": "engine", "env": [{"name": "B", "value": "theirs"}]}]}}
    source = {"configMapKeyRef": {"name": "proxies", "key": "http"}}
    own = [{"name": "HF_HOME", "valueFrom": source}, {"name": "B", "value": "own"}, {"name": "C", "value": ""}]
    assert engine(env=own, podTemplate=over)["env"] == [
        {"name": "HOME", "value": "/var/cache/octavo"},
        {"name": "HF_HOME", "valueFrom": source},
        {"name": "B", "value": "theirs"},
        {"name": "C", "value": ""},
    ]


def test_defaults_of_the_installation_give_way_to_the_service() -> None:
    defaults = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "llm", "arch": "amd64"},
        "tolerations": [{"key": "llm", "operator": "Exists"}],
        "runtimeClassName": "nvidia",
        "priorityClassName": "",
        "env": [{"name": name, "value": "default"} for name in ("A", "B", "HF_HOME")],
    }
    settings = Settings(runtime_image="octavo/runtime:1", pod_defaults=defaults)
    over = {
        "spec": {
            "nodeSelector": {"pool": "own"},
            "runtimeClassName": None,
            "containers": [{"name": "engine", "env": [{"name": "B", "value": "template"}]}],
        }
    }
    own = service(env=[{"name": "A", "value": "env"}, {"name": "B", "value": "env"}], podTemplate=over)
    spec = pod_template.build(own, settings)["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"pool": "own", "arch": "amd64"}
    assert spec["tolerations"] == [{"key": "llm", "operator": "Exists"}]
    assert not {"runtimeClassName", "priorityClassName"} & spec.keys()
    (container,) = spec["containers"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    assert environment == {"HOME": "/var/cache/octavo", "HF_HOME": "default", "A": "env", "B": "template"}


def test_placement_lies_over_the_installations_and_under_the_pod_templates() -> None:
    installed = SETTINGS.model_copy(
        update={"pod_defaults": {"nodeSelector": {"pool": "all", "zone": "a"}, "tolerations": [{"key": "llm"}]}}
    )
    mine = {"key": "team", "operator": "Exists", "effect": "NoSchedule"}
    said = pod(
        installed,
        accelerator={"type": "nvidia", "product": "NVIDIA-L4"},
        nodeSelector={"pool": "mine"},
        tolerations=[mine],
        podTemplate={"spec": {"nodeSelector": {"zone": "b"}}},
    )
    assert said["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4", "pool": "mine", "zone": "b"}
    assert [each["key"] for each in said["tolerations"]] == ["nvidia.com/gpu", "llm", "team"]
    assert said["tolerations"][-1] == mine
    assert "nodeSelector" not in pod()
    assert "tolerations" not in pod()


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        ('{"hostNetwork": true}', "must hold none but imagePullSecrets, .*got 'hostNetwork'"),
        ('{"tolerations": [{"tolerationSeconds": "soon"}]}', "podDefaults.tolerations.0..tolerationSeconds: must be a"),
        ('{"env": [{"name": "A", "value": 1.5}]}', "podDefaults.env.0..value: must be text"),
        ("{", "pod_defaults"),
    ],
)
def test_wrong_defaults_are_refused_by_name(defaults: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings(runtime_image="octavo/runtime:1", pod_defaults=defaults)


def test_another_token_secret_is_another_template() -> None:
    first, second = (
        built("Deployment", model={"uri": "hf://a/b", "tokenSecret": {"name": name}})["spec"]["template"]
        for name in ("one", "two")
    )
    assert first != second


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


def test_pods_spread_over_nodes_where_that_can_be() -> None:
    (spread,) = pod()["topologySpreadConstraints"]
    assert (spread["maxSkew"], spread["topologyKey"]) == (1, "kubernetes.io/hostname")
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    labels = built("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()


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
    assert sidecar == {
        "name": "sidecar",
        "image": "proxy:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    assert template["spec"]["nodeSelector"] == {"gpu": "h200"}
    assert container["image"] == "octavo/runtime:1"
