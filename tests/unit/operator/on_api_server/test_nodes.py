"""Replicas of several pods, by LeaderWorkerSet's own definition. Its controller does not run: its status is written by
the test."""

import json
from typing import Any

import pytest
from built import built
from foreign import defined, definition
from live import SMALLEST, Kubernetes, Operator
from patience import eventually

pytestmark = pytest.mark.cluster

LWS = "sigs.k8s.io/lws@v0.8.0"
DEFINITION = "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml"
KIND = "leaderworkerset"
THREE: dict[str, Any] = SMALLEST | {"accelerator": {"nodes": 3}}
RACK = {"type": "nvidia", "nodes": 2, "count": 8, "exclusiveTopology": "example.com/rack"}


def test_the_life_of_a_service_of_several_nodes(kubernetes: Kubernetes, operator: Operator, name: str) -> None:
    file = definition(LWS, DEFINITION)
    kubernetes.apply(name, THREE)
    eventually(lambda: kubernetes.reason(name) == "Refused", what="it is refused")
    said = kubernetes.condition(name, "Ready")["message"]
    assert "the API server does not know leaderworkerset.x-k8s.io/v1: install LeaderWorkerSet" in said

    with defined(kubernetes, file):
        every_field_is_known(kubernetes)
        made = eventually(lambda: kubernetes.get(KIND, name), what="it is made once the definition is there")
        assert made["spec"]["leaderWorkerTemplate"]["size"] == 3
        assert kubernetes.get("deployment", name) is None
        status = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "conditions": []}
        patch = json.dumps({"status": status})
        kubernetes.kubectl("patch", KIND, name, "--subresource=status", "--type=merge", "-p", patch)
        eventually(lambda: kubernetes.reason(name) == "Serving", what="it serves")

        kubernetes.writes_at_rest()
        edit = json.dumps({"spec": {"leaderWorkerTemplate": {"restartPolicy": "None"}}})
        kubernetes.kubectl("patch", KIND, name, "--type=merge", "-p", edit)
        policy = ("get", KIND, name, "-o", "jsonpath={.spec.leaderWorkerTemplate.restartPolicy}")
        right = "RecreateGroupOnPodRestart"
        eventually(lambda: kubernetes.kubectl(*policy) == right, what="what another wrote is gone")
        kubernetes.kubectl("scale", "llmservice", name, "--replicas=2")
        count = ("get", KIND, name, "-o", "jsonpath={.spec.replicas}")
        eventually(lambda: kubernetes.kubectl(*count) == "2", what="there are two")

        kubernetes.apply(name, SMALLEST | {"replicas": 1})
        eventually(lambda: kubernetes.get("deployment", name), what="a Deployment takes its place")
        eventually(lambda: kubernetes.get(KIND, name) is None, what="it goes")


def every_field_is_known(kubernetes: Kubernetes) -> None:
    command = ("create", "--validate=strict", "--dry-run=server", "-f", "-")
    for spec in ({"accelerator": RACK}, {"accelerator": {"nodes": 2}, "rollout": {"strategy": "recreate"}}):
        item = built("LeaderWorkerSet", **spec)
        said = kubernetes.kubectl(*command, document=json.dumps(item), check=False)
        assert "leaderworkerset.leaderworkerset.x-k8s.io/chat created" in said
        item["spec"]["leaderWorkerTemplate"]["sizes"] = 2
        said = kubernetes.kubectl(*command, document=json.dumps(item), check=False)
        assert 'unknown field "spec.leaderWorkerTemplate.sizes"' in said
