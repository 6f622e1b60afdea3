"""What a person changes by hand: the service, and the objects that it owns."""

import time
from typing import Any

import pytest
from client import Client
from kube import Kube, llmservice
from patience import eventually

pytestmark = pytest.mark.cluster

# kind -> what its name has beyond the service's; the Deployment last, since its pods go with it
OWNED = {
    "serviceaccount": "",
    "service": "",
    "poddisruptionbudget": "",
    "horizontalpodautoscaler": "",
    "deployment": "",
}


def test_edit_rolls_the_pods_without_a_failed_request(kube: Kube, client: Client, chat: str) -> None:
    (before,) = (pod["metadata"]["name"] for pod in kube.pods(chat))
    engine = (kube.get("llmservice", chat) or {})["spec"]["engine"]
    length = 4096 if engine.get("maxModelLen") == 2048 else 2048
    with client.load(kube.endpoint(chat), chat) as load:
        load.wait(5)
        edited = time.time()
        kube.patch(chat, {"engine": {"maxModelLen": length}})
        eventually(lambda: kube.get("pod", before) is None, lambda: f"{before} is replaced: {kube.condition(chat)}")
        load.wait(5)
        requests = load.stop()
    kube.wait_ready(chat)
    (after,) = kube.pods(chat)
    arguments = after["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--max-model-len") + 1] == str(length)
    assert [request for request in requests if request.error] == []
    assert len([request for request in requests if request.start > edited]) > 10


def test_deleted_children_are_back(kube: Kube, client: Client, chat: str) -> None:
    for kind, suffix in OWNED.items():
        child = chat + suffix
        live = kube.get(kind, child)
        assert live is not None, f"{kind} {child}"

        def is_back(kind: str = kind, child: str = child, live: dict[str, Any] = live) -> bool:
            found = kube.get(kind, child)
            return found is not None and found["metadata"]["uid"] != live["metadata"]["uid"]

        kube.kubectl("delete", kind, child, "--wait=false")
        eventually(is_back, lambda kind=kind, child=child: f"{kind} {child} is back: {kube.condition(chat)}")
    kube.wait_ready(chat)
    assert "Paris" in client.ask(f"http://{chat}.{kube.namespace}.svc/v1", chat)


BAD_SPECS = [
    ({"model": {"uri": "builtin://smollm2"}, "replicas": 1001}, "spec.replicas", "1000", "1001"),
    ({"model": {"uri": "ftp://host/model"}}, "spec.model.uri", "must be builtin://NAME", "ftp://host/model"),
    (
        {"model": {"uri": "builtin://smollm2"}, "engine": {"blockSize": 24}},
        "spec.engine.blockSize",
        "power of two",
        "24",
    ),
    ({"model": {"uri": "builtin://smollm2"}, "rollout": {"drain": "2h"}}, "spec.rollout.drain", "at most 1h", "2h"),
    ({"model": {"uri": "builtin://smollm2"}, "engin": {}}, "LLMService.spec", "unknown field", "engin"),
]


@pytest.mark.parametrize("case", BAD_SPECS, ids=lambda case: case[1])
def test_bad_spec_is_refused_at_apply(kube: Kube, name: str, case: tuple[Any, ...]) -> None:
    spec, *words = case
    said = kube.apply(llmservice(name) | {"spec": spec}, check=False)
    assert [word for word in words if word not in said] == [], said
    assert kube.get("llmservice", name) is None
