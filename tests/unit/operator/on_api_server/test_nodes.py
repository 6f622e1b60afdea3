"""Replicas of several pods, by LeaderWorkerSet's own definition. Its controller does not run: its status is written by
the tests."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from built import built
from foreign import defined, definition
from live import SMALLEST, Kubernetes, Operator
from patience import eventually

pytestmark = pytest.mark.cluster

LWS = "sigs.k8s.io/lws@v0.8.0"
DEFINITION = "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml"
THREE = SMALLEST | {"accelerator": {"nodes": 3}}
KIND = "leaderworkerset"


def test_without_its_definition_the_condition_says_what_to_install(
    kubernetes: Kubernetes, operator: Operator, name: str
) -> None:
    kubernetes.apply(name, THREE)
    eventually(lambda: kubernetes.reason(name) == "Refused", what="it is refused")
    said = kubernetes.condition(name, "Ready")["message"]
    assert "the API server does not know leaderworkerset.x-k8s.io/v1: install LeaderWorkerSet" in said


class TestWithItsDefinition:
    @pytest.fixture(scope="class", autouse=True)
    def lws(self, kubernetes: Kubernetes) -> Iterator[None]:
        with defined(kubernetes, definition(LWS, DEFINITION)):
            yield

    @pytest.mark.parametrize(
        "spec",
        [
            {"accelerator": {"type": "nvidia", "nodes": 2, "count": 8, "exclusiveTopology": "example.com/rack"}},
            {"accelerator": {"nodes": 2}, "replicas": 0, "rollout": {"strategy": "recreate"}},
        ],
        ids=str,
    )
    def test_it_knows_every_field(self, kubernetes: Kubernetes, spec: dict[str, Any]) -> None:
        item = built("LeaderWorkerSet", **spec)
        command = ("create", "--validate=strict", "--dry-run=server", "-f", "-")
        said = kubernetes.kubectl(*command, document=json.dumps(item), check=False)
        assert "leaderworkerset.leaderworkerset.x-k8s.io/chat created" in said
        item["spec"]["leaderWorkerTemplate"]["sizes"] = 2
        said = kubernetes.kubectl(*command, document=json.dumps(item), check=False)
        assert 'unknown field "spec.leaderWorkerTemplate.sizes"' in said

    def test_the_life_of_a_service(self, kubernetes: Kubernetes, operator: Operator, name: str) -> None:
        kubernetes.apply(name, THREE)
        made = eventually(lambda: kubernetes.get(KIND, name), what="it is made")
        assert made["spec"]["leaderWorkerTemplate"]["size"] == 3
        assert kubernetes.get("deployment", name) is None
        status = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "conditions": []}
        patch = json.dumps({"status": status})
        kubernetes.kubectl("patch", KIND, name, "--subresource=status", "--type=merge", "-p", patch)
        eventually(lambda: kubernetes.reason(name) == "Serving", what="it serves")

        edit = json.dumps({"spec": {"leaderWorkerTemplate": {"restartPolicy": "None"}}})
        kubernetes.kubectl("patch", KIND, name, "--type=merge", "-p", edit)
        policy = ("get", KIND, name, "-o", "jsonpath={.spec.leaderWorkerTemplate.restartPolicy}")
        eventually(lambda: kubernetes.kubectl(*policy) == "RecreateGroupOnPodRestart", what="it is put right")

        kubernetes.kubectl("scale", "llmservice", name, "--replicas=2")
        eventually(lambda: kubernetes.get(KIND, name)["spec"]["replicas"] == 2, what="there are two")  # type: ignore[index]
        kubernetes.kubectl("delete", KIND, name)
        eventually(lambda: kubernetes.get(KIND, name), what="it comes back")

        kubernetes.apply(name, SMALLEST | {"replicas": 1})
        eventually(lambda: kubernetes.get("deployment", name), what="a Deployment takes its place")
        eventually(lambda: kubernetes.get(KIND, name) is None, what="it goes")
