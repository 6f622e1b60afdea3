"""What the webhook answers: the operator's own words, and nothing to what is not its business."""

from typing import Any

import pytest
from built import SETTINGS
from fake_cluster import cluster_with, condition, run
from live import SMALLEST
from question import asked

from octavo_operator.admission import review

ROOT = {"podTemplate": {"spec": {"securityContext": {"runAsUser": 0}}}}
CASES = [
    (ROOT, ["spec.podTemplate.spec.securityContext.runAsUser", "another than root's", "0"]),
    ({"podTemplate": {"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}}, ["volumes[h]", "hostPath"]),
    (
        {"podTemplate": {"spec": {"terminationGracePeriodSeconds": "soon"}}},
        ["spec.podTemplate.spec.terminationGracePeriodSeconds", "must be a whole number", '"soon"'],
    ),
    ({"engine": {"extraArgs": ["--max-body=-1"]}}, ["spec.engine.extraArgs", "-1"]),
    ({"resources": {"cpu": "many"}}, ["spec.resources.cpu", "many"]),
    ({"resources": {"cpu": 0}}, ["spec.resources.cpu", "more than 0", "0"]),
    (
        {"autoscaling": {"maxReplicas": 2, "provider": "keda", "targets": {"queueDepth": 4}}},
        ["spec.autoscaling.provider", "prometheus.url", "keda"],
    ),
]


def answered(question: dict[str, Any]) -> dict[str, Any]:
    found = review.answer(question, SETTINGS)
    assert (found["apiVersion"], found["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = found["response"]
    assert response["uid"] == "q1"
    return response


@pytest.mark.parametrize(("spec", "words"), CASES, ids=[words[0] for _, words in CASES])
def test_what_the_operator_would_refuse_is_refused_in_its_own_words(spec: dict[str, Any], words: list[str]) -> None:
    response = answered(asked(SMALLEST | spec))
    assert response["allowed"] is False
    message = response["status"]["message"]
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message
    cluster = cluster_with(**spec)
    run(cluster)
    told = condition(cluster, "Valid")
    assert (told["reason"], told["message"]) == ("InvalidSpec", message), "the status says the same"


def test_what_the_operator_carries_out_is_let_through() -> None:
    sound = {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}, "resources": {"cpu": 1.5}}
    assert answered(asked(SMALLEST | sound)) == {"uid": "q1", "allowed": True}
    assert answered(asked(SMALLEST, metadata={"generateName": "chat-", "name": ""}))["allowed"] is False


def test_an_object_whose_spec_stays_or_that_goes_is_let_through() -> None:
    bad = SMALLEST | ROOT
    assert answered(asked(bad, operation="UPDATE", oldObject={"spec": bad}))["allowed"], "it can be labelled"
    assert not answered(asked(bad, operation="UPDATE", oldObject={"spec": SMALLEST}))["allowed"]
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert answered(asked(bad, operation="UPDATE", oldObject={"spec": SMALLEST}, metadata=going))["allowed"]


def test_an_installation_that_allows_all_of_a_pod_template_lets_it_through() -> None:
    free = SETTINGS.model_copy(update={"pod_template": "all"})
    assert review.answer(asked(SMALLEST | ROOT), free)["response"]["allowed"]
