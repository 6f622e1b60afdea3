"""The Job that reads what a model is."""

from typing import Any

from built import SETTINGS, service

from octavo_operator.resources import model_reading, pod_template

Object = dict[str, Any]


def job(**spec: Any) -> Object:
    asked = service(**spec)
    return model_reading.build(asked, SETTINGS, pod_template.build(asked, SETTINGS))


def pod(**spec: Any) -> Object:
    found: Object = job(**spec)["spec"]["template"]["spec"]
    return found


def source(**spec: Any) -> str:
    asked = service(**spec)
    return model_reading.source(asked, SETTINGS, pod_template.build(asked, SETTINGS))


def test_it_reads_the_model_as_the_engine_would() -> None:
    spec = {"model": {"uri": "hf://a/b@main", "tokenSecret": {"name": "hub"}}, "env": [{"name": "A", "value": "b"}]}
    spec |= {"podTemplate": {"spec": {"nodeSelector": {"zone": "a"}, "imagePullSecrets": [{"name": "registry"}]}}}
    asked = service(**spec)
    engine = pod_template.engine_of(pod_template.build(asked, SETTINGS))
    assert engine is not None
    found = pod(**spec)
    (container,) = found["containers"]
    assert container["args"] == ["describe", "hf://a/b@main", "--output", "/dev/termination-log"]
    for part in ("image", "env", "volumeMounts", "securityContext"):
        assert container[part] == engine[part]
    assert (found["nodeSelector"], found["imagePullSecrets"]) == ({"zone": "a"}, [{"name": "registry"}])
    assert found["automountServiceAccountToken"] is False
    assert found["serviceAccountName"] == "chat"
    assert not {"ports", "livenessProbe", "startupProbe", "readinessProbe", "lifecycle"} & container.keys()


def test_it_asks_for_little_and_no_gpu() -> None:
    spec = {"model": {"uri": "pvc://models/a"}, "accelerator": {"type": "nvidia"}}
    found = pod(**spec, endpoint={"apiKeysSecret": {"name": "keys"}, "tlsSecret": {"name": "tls"}})
    (container,) = found["containers"]
    assert container["args"][1] == "file:///models/a"
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
    assert found["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert [volume for volume in found["volumes"] if "secret" in volume] == [], "no Secret of the server's"
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]


def test_it_has_the_limits_that_a_namespace_asks_of_every_container() -> None:
    limits = {"cpu": "4", "ephemeral-storage": "20Gi", "memory": "64Gi"}
    engine = {"name": "engine", "resources": {"limits": limits, "requests": {"cpu": "2"}}}
    (container,) = pod(podTemplate={"spec": {"containers": [engine]}})["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "4", "ephemeral-storage": "20Gi", "memory": "1Gi"},
    }


def test_it_ends_and_goes() -> None:
    spec = job()["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (1, 600, 600)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_its_pods_are_never_taken_for_the_services() -> None:
    found = job(podTemplate={"metadata": {"labels": {"team": "a"}}})
    assert found["metadata"]["labels"]["serving.octavo.dev/service"] == "chat"
    assert found["metadata"]["ownerReferences"][0]["kind"] == "LLMService"
    assert found["spec"]["template"]["metadata"]["labels"] == {"team": "a"}


def test_its_name_is_that_of_its_source() -> None:
    name = "n" * 40
    assert len(job(name=name)["metadata"]["name"]) <= 63
    hub = {"uri": "hf://a/b"}
    same = source(model=hub)
    assert source(model=hub, engine={"maxModelLen": 512}, resources={"memory": "8Gi"}, replicas=3) == same
    assert source(model=hub, endpoint={"tlsSecret": {"name": "tls"}}) == same
    others = [
        {"model": {"uri": "hf://a/c"}},
        {"model": hub | {"tokenSecret": {"name": "hub"}}},
        {"model": hub, "env": [{"name": "HF_ENDPOINT", "value": "http://mirror"}]},
        {"model": hub, "image": "mine:1"},
    ]
    assert len({same, *(source(**each) for each in others)}) == 5
