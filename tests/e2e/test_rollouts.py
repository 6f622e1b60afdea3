"""Rollouts under load, rollouts that fail, and rollouts on GPUs that are all in use."""

import os
import time
from collections.abc import Callable

import pytest
from client import Client
from kube import Kube, llmservice
from patience import eventually
from stand_in import stand_in

pytestmark = pytest.mark.cluster

REQUESTS = 500 if os.environ.get("OCTAVO_SOAK") else 100


def test_two_rollouts_and_a_deleted_pod_lose_no_request(kube: Kube, client: Client, name: str) -> None:
    """Streams from the openai client, none tried twice, by way of the Service."""
    kube.apply(llmservice(name, replicas=2))
    kube.wait_ready(name)
    changes: list[float] = []
    with client.load(kube.endpoint(name), "smollm2", workers=4) as load:
        for length in (2048, 4096):
            load.wait(10)
            changes.append(time.time())
            kube.patch(name, {"engine": {"kvCacheMemory": "128Mi", "maxNumSeqs": 8, "maxModelLen": length}})
            kube.wait_ready(name)
        load.wait(10)
        changes.append(time.time())
        victim = kube.pods(name)[0]["metadata"]["name"]
        kube.kubectl("delete", "pod", victim, "--wait=false")
        eventually(lambda: kube.get("pod", victim) is None, f"{victim} is gone")
        kube.wait_ready(name)
        load.wait(max(10, REQUESTS - len(load.requests)))
        requests = load.stop()
    assert [request for request in requests if request.error] == []
    assert len(requests) >= REQUESTS
    for began, ended in zip(changes, [*changes[1:], requests[-1].end], strict=True):
        assert any(began < request.start < ended for request in requests), "nobody asked meanwhile"
    print(f"{len(requests)} streams in {requests[-1].end - requests[0].start:.0f} s, none lost")


def test_a_rollout_that_fails_stops_and_the_former_spec_brings_it_back(kube: Kube, client: Client, chat: str) -> None:
    (before,) = (pod["metadata"]["name"] for pod in kube.pods(chat))
    kube.patch(chat, {"image": "octavo.local/none:1"})
    eventually(
        lambda: kube.condition(chat).get("reason") == "ImagePullBackOff",
        lambda: f"it says why: {kube.condition(chat)}",
    )
    said = kube.condition(chat)["message"]
    assert "1 of 1 replicas answer, some of them by the former spec; pod" in said, said
    assert "cannot pull image octavo.local/none:1" in said, said
    assert "Paris" in client.ask(kube.endpoint(chat), chat)
    kube.patch(chat, {"image": None})
    kube.wait_ready(chat)
    assert [pod["metadata"]["name"] for pod in kube.pods(chat)] == [before], "the former pod was never touched"


@pytest.mark.parametrize(("gpus", "lacks"), [("3", False), ("2", True)])
def test_a_rollout_surges_where_a_gpu_is_spare(
    kube: Kube, name: str, say_gpus: Callable[[str], str], gpus: str, lacks: bool
) -> None:
    """A node that only says it has GPUs, and a service that has two of them."""
    say_gpus(gpus)
    kube.apply(stand_in(name, replicas=2, accelerator={"type": "nvidia"}))
    kube.wait_ready(name)
    assert kube.condition(name, "NoSpareGPU")["status"] == "False"
    kube.patch(name, {"engine": {"maxNumSeqs": 4}})
    fewest, was_lacking = 2, False

    def done() -> bool:
        nonlocal fewest, was_lacking
        service = kube.get("llmservice", name) or {}
        fewest = min(fewest, service["status"]["readyReplicas"])
        conditions = {item["type"]: item["status"] for item in service["status"]["conditions"]}
        was_lacking = was_lacking or conditions["NoSpareGPU"] == "True"
        return kube.settled(name)

    eventually(done, lambda: f"it rolls: {kube.condition(name)}")
    assert was_lacking == lacks
    assert fewest == 1 if lacks else fewest == 2
    assert kube.condition(name, "NoSpareGPU")["status"] == "False"
