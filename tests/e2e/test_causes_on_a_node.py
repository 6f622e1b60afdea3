"""What only a kubelet, a scheduler or an autoscaler says of a pod stands in Ready.message too. A stand-in for the
engine makes it quick."""

import json
from typing import Any

import pytest
from kube import SERVICE_LABEL, Kube
from patience import eventually
from release import Release
from stand_in import engine, stand_in

pytestmark = pytest.mark.cluster


def becomes(kube: Kube, name: str, reason: str, *words: str) -> None:
    """Wait until Ready has this reason, and its message all these words."""

    def holds() -> bool:
        ready = kube.condition(name)
        return ready.get("reason") == reason and all(word in ready["message"] for word in words)

    eventually(holds, lambda: f"{reason} {words}: {kube.condition(name)}")


def test_causes(release: Release, kube: Kube, name: str) -> None:
    """Side by side, since each takes its time to come about."""
    image = release.images["demo"]
    preparing = {"name": "prepare", "image": image, "command": ["sh", "-c", "exit 3"]}
    unpulled = {"name": "shipper", "image": "octavo.local/none:1"}
    dying = engine(status=503, startupProbe={"failureThreshold": 2})
    troubles: dict[str, tuple[dict[str, Any], str, list[str]]] = {
        "keys": (
            {"endpoint": {"apiKeysSecret": {"name": "absent"}}},
            "FailedMount",
            ['secret "absent" not found', "create the Secret that spec.endpoint.apiKeysSecret names"],
        ),
        "ends": (
            {"podTemplate": {"spec": {"containers": [engine(command=["true"])]}}},
            "CrashLoopBackOff",
            ["by itself", "with exit code 0"],
        ),
        "probe": (
            {"podTemplate": {"spec": {"containers": [dying], "terminationGracePeriodSeconds": 6}}},
            "ProbeFailed",
            ["was restarted", "503"],
        ),
        "init": (
            {"podTemplate": {"spec": {"containers": [engine()], "initContainers": [preparing]}}},
            "CrashLoopBackOff",
            ["init container prepare of spec.podTemplate", "exit code 3"],
        ),
        "sidecar": (
            {"podTemplate": {"spec": {"containers": [engine(), unpulled]}}},
            "ImagePullBackOff",
            ["container shipper of spec.podTemplate", "octavo.local/none:1"],
        ),
        "gated": (
            {"podTemplate": {"spec": {"containers": [engine()], "schedulingGates": [{"name": "example.com/queue"}]}}},
            "SchedulingGated",
            ["example.com/queue"],
        ),
    }
    services = [f"{name}-{each}" for each in troubles]
    kube.apply(*(stand_in(f"{name}-{each}", **spec) for each, (spec, _, _) in troubles.items()))
    try:
        for each, (_, reason, words) in troubles.items():
            becomes(kube, f"{name}-{each}", reason, *words)
    finally:
        kube.delete("llmservice", *services)


def test_a_pod_that_failed_long_ago_is_not_the_present_trouble(kube: Kube, name: str) -> None:
    kube.apply(stand_in(name))
    kube.wait_ready(name)
    failed = kube.pods(name)[0]["metadata"]["name"]
    kube.kubectl("patch", "pod", failed, "--patch", '{"spec": {"activeDeadlineSeconds": 1}}')
    eventually(lambda: len(kube.pods(name)) == 2, "the failed pod and its successor")
    becomes(kube, name, "Serving", "1 of 1 replicas answer")
    assert (kube.get("pod", failed) or {})["status"]["phase"] == "Failed", "it lies there still"
    assert failed not in kube.condition(name)["message"]
    kube.patch(name, {"engine": {"maxNumSeqs": 4}})
    kube.wait_ready(name)
    ours = f"--field-selector=involvedObject.kind=LLMService,involvedObject.name={name}"
    assert kube.kubectl("get", "events", f"{ours},type=Warning", "--output=name") == "", kube.kubectl(
        "get", "events", ours
    )
    kube.delete("pod", failed)


def test_a_crash_looping_pod_may_be_evicted(kube: Kube, name: str) -> None:
    kube.apply(stand_in(name, {"containers": [engine(command=["false"])]}, replicas=2))
    becomes(kube, name, "CrashLoopBackOff")
    pod = kube.pods(name)[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": kube.namespace}}
    path = f"/api/v1/namespaces/{kube.namespace}/pods/{pod}/eviction"
    eventually(
        lambda: (
            "Success"
            in kube.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(eviction), check=False)
        ),
        "the eviction is granted",
    )


def test_a_pod_of_anothers_that_bears_the_label_is_not_the_services(kube: Kube, name: str) -> None:
    kube.apply(stand_in(name))
    kube.wait_ready(name)
    stranger = f"{name}-stranger"
    kube.kubectl("run", stranger, "--image=octavo.local/none:1", f"--labels={SERVICE_LABEL}={name}")
    try:
        eventually(lambda: "containerStatuses" in (kube.get("pod", stranger) or {})["status"], "it has a status")
        kube.kubectl("annotate", "llmservice", name, "example.com/look=again")
        assert kube.condition(name)["reason"] == "Serving"
    finally:
        kube.delete("pod", stranger)


def test_a_quota_that_keeps_a_rollout_from_going_on_is_told_while_the_old_pod_answers(kube: Kube, name: str) -> None:
    kube.apply(stand_in(name))
    kube.wait_ready(name)
    kube.kubectl("create", "quota", name, "--hard=pods=1")
    try:
        kube.patch(name, {"engine": {"maxNumSeqs": 4}})
        becomes(kube, name, "PodsRefused", "exceeded quota")
    finally:
        kube.delete("quota", name)
    kube.wait_ready(name)
