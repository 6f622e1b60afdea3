"""A replica of three pods, which compute one model together, on a real cluster with LeaderWorkerSet's controller."""

import json
from collections.abc import Iterator

import leader_worker_sets
import pytest
import target
from client import POD, Client
from kube import Kube, llmservice
from patience import eventually
from release import Release

pytestmark = pytest.mark.cluster

LWS = "lws-system"
# As many as the builtin model's nine heads divide by. In float32 a sum over pods rounds as little as one in a pod.
EXACT = {"engine": {"kvCacheMemory": "64Mi", "maxNumSeqs": 4, "dtype": "float32"}}
PROMPT = {"model": "smollm2", "prompt": "The capital of France is", "max_tokens": 12, "temperature": 0}
COMPLETE = """
import sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(f"{url}/completions", body.encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request).read().decode())
"""


@pytest.fixture(scope="module", autouse=True)
def controller(place: target.Target, release: Release) -> Iterator[None]:
    """The controller, where the cluster has none."""
    kube = release.kube.within(LWS)
    if kube.get("crd", "leaderworkersets.leaderworkerset.x-k8s.io") is not None:
        yield
        return
    if place.name != "own":
        pytest.skip("the cluster has no controller of LeaderWorkerSets")
    repository, tag = leader_worker_sets.image()
    values = {
        "image.manager.repository": repository,
        "image.manager.tag": tag,
        "image.manager.pullPolicy": "Never",
        "podSecurityContext.runAsUser": "1000",
        "resources.requests.cpu": "10m",
        "resources.requests.memory": "64Mi",
    }
    settings = [f"--set={name}={value}" for name, value in values.items()]
    chart = str(leader_worker_sets.chart())
    kube.run("helm", "install", "lws", chart, "--create-namespace", "--wait", "--timeout=8m", *settings)
    try:
        yield
    finally:
        kube.run("helm", "uninstall", "lws", "--wait")
        kube.delete("crd", "leaderworkersets.leaderworkerset.x-k8s.io")
        kube.delete("namespace", LWS, wait=True)


def answer(client: Client, kube: Kube, name: str) -> str:
    """What the service writes on, greedily."""
    words = ("exec", POD, "--", "python", "-c", COMPLETE, kube.endpoint(name), json.dumps(PROMPT))
    text: str = json.loads(client.kube.kubectl(*words))["choices"][0]["text"]
    return text


def uids(kube: Kube, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in kube.pods(name)}


def test_three_pods_answer_as_one_and_start_anew_together(kube: Kube, client: Client, name: str) -> None:
    kube.apply(llmservice(name, **EXACT))
    kube.wait_ready(name)
    alone = answer(client, kube, name)

    kube.apply(llmservice(name, **EXACT, accelerator={"nodes": 3}))
    kube.wait_ready(name)
    assert {pod["metadata"]["name"] for pod in kube.pods(name)} == {f"{name}-0", f"{name}-0-1", f"{name}-0-2"}
    assert answer(client, kube, name) == alone

    before = uids(kube, name)
    kube.delete("pod", f"{name}-0-2")
    eventually(lambda: len(uids(kube, name) - before) == 3, "all three are new")
    kube.wait_ready(name)
    assert answer(client, kube, name) == alone

    before = uids(kube, name)
    exact = EXACT["engine"] | {"maxNumSeqs": 5}
    kube.apply(llmservice(name, engine=exact, accelerator={"nodes": 3}))
    eventually(lambda: len(uids(kube, name) - before) == 3, "a single group is replaced, too")
    kube.wait_ready(name)
    assert answer(client, kube, name) == alone
