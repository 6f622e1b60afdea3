"""The Job that downloads a model to its cache, and the claim that is made for it."""

from typing import Any

from built import SETTINGS, engine, kinds, pod, service

from octavo_operator.resources import cache_claim, model_download, pod_template

Object = dict[str, Any]
MODEL = {"uri": "hf://a/b", "tokenSecret": {"name": "hub"}, "cache": {"claimName": "models"}}


def job(name: str = "chat", **spec: Any) -> Object:
    asked = service(name, **{"model": MODEL} | spec)
    return model_download.build(asked, SETTINGS, pod_template.build(asked, SETTINGS))


def claim(**cache: Any) -> Object | None:
    return cache_claim.build(service(model=MODEL | {"cache": cache}), SETTINGS)


def test_it_downloads_to_the_claim_as_the_pods_would() -> None:
    spec = job(podTemplate={"spec": {"nodeSelector": {"zone": "a"}}})["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"][:4] == ["download", "hf://a/b", "--to", "/models"]
    assert {"name": "model", "mountPath": "/models"} in container["volumeMounts"], "it writes there"
    assert {"name": "model", "persistentVolumeClaim": {"claimName": "models"}} in spec["volumes"]
    assert container["env"] == engine(model=MODEL)["env"]
    assert spec["nodeSelector"] == {"zone": "a"}
    assert spec["securityContext"] == pod(model=MODEL)["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    assert not {"ports", "livenessProbe", "startupProbe", "readinessProbe", "lifecycle"} & container.keys()


def test_it_is_tried_until_it_is_done_and_then_goes() -> None:
    spec = job()["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert spec["backoffLimit"] > 10**6
    assert "activeDeadlineSeconds" not in spec
    assert spec["ttlSecondsAfterFinished"] == 300


def test_services_that_ask_for_the_same_share_it_and_others_do_not() -> None:
    name = job()["metadata"]["name"]
    assert job("other", replicas=3, resources={"memory": "8Gi"})["metadata"]["name"] == name
    others = [
        {"model": MODEL | {"uri": "hf://a/b@v1"}},
        {"model": MODEL | {"cache": {"claimName": "more"}}},
        {"model": MODEL | {"cache": {"size": "1Gi"}}},
        {"model": MODEL | {"tokenSecret": {"name": "mine"}}},
        {"model": MODEL | {"endpoint": "http://mirror"}},
    ]
    assert len({name, *(job(**each)["metadata"]["name"] for each in others)}) == 6


def test_its_pods_are_never_taken_for_the_services() -> None:
    found = job(podTemplate={"metadata": {"labels": {"team": "a"}}})
    labels = found["metadata"]["labels"]
    assert labels["serving.octavo.dev/service"] == "chat"
    mark = {"serving.octavo.dev/model-cache": labels["serving.octavo.dev/model-cache"]}
    assert found["spec"]["template"]["metadata"]["labels"] == {"team": "a"} | mark
    assert found["metadata"]["ownerReferences"][0]["kind"] == "LLMService"


def test_a_claim_is_made_as_the_spec_says() -> None:
    made = claim(size="50Gi")
    assert made is not None
    assert made["metadata"]["name"] == "chat-model-cache"
    assert made["metadata"]["ownerReferences"][0]["name"] == "chat"
    assert made["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}}
    made = claim(size="50Gi", storageClassName="nfs", accessMode="ReadWriteMany")
    assert made is not None
    assert (made["spec"]["storageClassName"], made["spec"]["accessModes"]) == ("nfs", ["ReadWriteMany"])
    assert claim(claimName="models") is None
    assert "PersistentVolumeClaim" not in kinds(model=MODEL), "nothing prunes it"


def test_where_and_with_what_a_source_is_asked() -> None:
    model = {"uri": "s3://models/a", "endpoint": "http://minio:9000", "region": "eu-1"}
    env = {each["name"]: each for each in engine(model=model | {"credentialsSecret": {"name": "minio"}})["env"]}
    assert (env["AWS_ENDPOINT_URL"]["value"], env["AWS_REGION"]["value"]) == ("http://minio:9000", "eu-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        assert env[name]["valueFrom"]["secretKeyRef"]["key"] == name
    assert env["AWS_SESSION_TOKEN"]["valueFrom"]["secretKeyRef"]["optional"] is True
    env = {each["name"]: each.get("value") for each in engine(model={"uri": "hf://a/b", "endpoint": "http://m"})["env"]}
    assert env["HF_ENDPOINT"] == "http://m"


def test_a_registrys_credentials_are_a_file() -> None:
    model = {"uri": "oci://registry.example/a:1", "credentialsSecret": {"name": "pull"}}
    (volume,) = [each for each in pod(model=model)["volumes"] if each["name"] == "registry"]
    assert volume["secret"]["secretName"] == "pull"
    assert volume["secret"]["items"] == [{"key": ".dockerconfigjson", "path": "config.json"}]
    assert {"name": "DOCKER_CONFIG", "value": "/etc/octavo/registry"} in engine(model=model)["env"]
    assert [each for each in engine(model=model)["volumeMounts"] if each["name"] == "registry"] != []
