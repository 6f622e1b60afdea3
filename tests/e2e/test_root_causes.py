"""What keeps pods from answering stands in Ready.message, with what to do about it."""

from collections.abc import Callable

import pytest
from kube import Kube, llmservice
from patience import eventually
from stand_in import engine, stand_in

pytestmark = pytest.mark.cluster

GPU = "nvidia.com/gpu"


def test_root_causes(kube: Kube, name: str) -> None:
    """Side by side, since each takes its time to come about."""
    troubles = {
        f"{name}-image": (
            {"image": "octavo.local/none:1"},
            "ImagePullBackOff",
            ["cannot pull image octavo.local/none:1", "check spec.image"],
        ),
        f"{name}-memory": (
            {
                "engine": {"kvCacheMemory": "64Mi"},
                "resources": {"cpu": "100m", "memory": "200Mi"},
                "podTemplate": {"spec": {"containers": [engine(command=["python3", "-c", "b'x' * 2**30"])]}},
            },
            "OOMKilled",
            ["ran out of memory", "its limit is 200Mi", "raise spec.resources.memory"],
        ),
        f"{name}-cpu": (
            {"resources": {"cpu": "640", "memory": "1536Mi"}},
            "Unschedulable",
            ["fits on no node", "Insufficient cpu", "lower spec.resources.cpu"],
        ),
        f"{name}-path": (
            {"model": {"uri": "file:///nowhere"}},
            "CrashLoopBackOff",
            ["/nowhere does not exist"],
        ),
    }
    kube.apply(*(llmservice(each, **spec) for each, (spec, _, _) in troubles.items()))
    try:
        for each, (_, reason, words) in troubles.items():
            eventually(
                lambda each=each, reason=reason: kube.condition(each).get("reason") == reason,
                lambda each=each, reason=reason: f"{reason}: {kube.condition(each)}",
            )
            message = kube.condition(each)["message"]
            print(message)
            assert [word for word in words if word not in message] == [], message
            assert f"pod {each}-" in message
            assert reason in kube.kubectl("get", "llmservice", each)
    finally:
        kube.delete("llmservice", *troubles)


def test_gpu_is_waited_for_and_asked_of_the_scheduler(kube: Kube, name: str, say_gpus: Callable[[str], str]) -> None:
    """A node that only says it has a GPU: the pod gets it, and cannot use it."""
    kube.apply(llmservice(name, accelerator={"type": "nvidia"}))
    eventually(lambda: kube.condition(name).get("reason") == "Unschedulable", "no node has one")
    assert f"Insufficient {GPU}; free a GPU, or add a node with one" in kube.condition(name)["message"]

    node = say_gpus("1")
    eventually(lambda: kube.pods(name)[0]["spec"].get("nodeName") == node, "it is scheduled")
    assert kube.pods(name)[0]["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
    eventually(
        lambda: kube.condition(name).get("reason") == "CrashLoopBackOff",
        lambda: f"told: {kube.condition(name)}",
    )
    print(kube.condition(name)["message"])
    assert "cuda" in kube.condition(name)["message"].lower()


def test_a_rollout_without_a_spare_gpu_has_a_way(kube: Kube, name: str, say_gpus: Callable[[str], str]) -> None:
    say_gpus("1")
    kube.apply(stand_in(name, accelerator={"type": "nvidia"}))
    kube.wait_ready(name)
    kube.patch(name, {"engine": {"maxNumSeqs": 4}})
    eventually(
        lambda: kube.condition(name).get("reason") == "Unschedulable",
        lambda: f"the new pod finds no GPU: {kube.condition(name)}",
    )
    assert "rollout.strategy" in kube.condition(name)["message"]
    assert kube.condition(name, "Available")["status"] == "True", "the old pod answers"
    kube.patch(name, {"rollout": {"strategy": "recreate"}})
    kube.wait_ready(name)
