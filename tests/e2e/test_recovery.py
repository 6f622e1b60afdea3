"""The operator dies in the middle of its work; a pod dies in the middle of its requests."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from client import Client
from kube import Kube, llmservice
from patience import eventually
from release import Release

pytestmark = pytest.mark.cluster

MANY = 30


def kill(kube: Kube, pod: str) -> None:
    """End a pod at once, without grace."""
    kube.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")


def test_operator_killed_in_mid_reconcile(release: Release, kube: Kube, name: str) -> None:
    """Many services at once, so that it has work left when it dies; none has a pod, so that they cost nothing."""
    names = [f"{name}-{number}" for number in range(MANY)]

    def finished(length: int) -> int:
        """How many of the services have all their objects, the Deployment with the present flag."""
        owned = kube.all("deployments,services,poddisruptionbudgets,serviceaccounts")
        mine = [item for item in owned if item["metadata"].get("ownerReferences", [{}])[0].get("name") in names]
        flags = [
            item["spec"]["template"]["spec"]["containers"][0]["args"] for item in mine if item["kind"] == "Deployment"
        ]
        current = sum(str(length) in arguments for arguments in flags)
        return min(current, len(mine) // 4)

    killed_at_work = 0
    try:
        for length in itertools.count(1024, 64):
            (operator,) = (pod["metadata"]["name"] for pod in release.operators())
            wanted = [llmservice(each, replicas=0, engine={"maxModelLen": length}) for each in names]
            with ThreadPoolExecutor() as aside:
                applying = aside.submit(kube.apply, *wanted)
                eventually(lambda length=length: finished(length) > 2, "the operator is at work")
                kill(release.kube, operator)
                left = MANY - finished(length)
                applying.result()
            print(f"killed with {left} of {MANY} services to do")
            eventually(lambda length=length: finished(length) == MANY, f"the other {left} of {MANY}")
            release.wait_operator()
            killed_at_work += left > 0
            if killed_at_work == 2:
                break
            # On a busy machine it may have finished before the kill: that shows nothing.
            assert length < 1024 + 8 * 64, "it had always finished before it died: nothing is shown"
        eventually(
            lambda: all(kube.condition(each).get("reason") == "ScaledToZero" for each in names),
            "each says so",
        )
    finally:
        kube.delete("llmservice", *names)


def test_pod_killed_under_load(kube: Kube, client: Client, chat: str) -> None:
    (victim,) = (pod["metadata"]["name"] for pod in kube.pods(chat))
    with client.load(kube.endpoint(chat), chat, workers=2) as load:
        load.wait(5)
        killed = time.time()
        kill(kube, victim)
        eventually(lambda: kube.condition(chat)["status"] == "False", "the status tells")
        said = kube.condition(chat)
        kube.wait_ready(chat)
        load.wait(20)
        requests = load.stop()
    assert said["reason"] == "Starting"
    assert "0 of 1 replicas answer; pod" in said["message"]
    assert victim not in [pod["metadata"]["name"] for pod in kube.pods(chat)]
    before = [request for request in requests if request.end < killed]
    assert before
    assert [request for request in [*before, *requests[-10:]] if request.error] == []
    assert [request for request in requests if request.error], "nothing was running when the pod was killed"


def test_engine_killed_in_its_pod(kube: Kube, client: Client, chat: str) -> None:
    """The engine's process dies under its server: the container restarts, in the same pod."""
    (pod,) = (item["metadata"]["name"] for item in kube.pods(chat))
    find_and_kill = (
        "import os, pathlib, signal\n"
        "for folder in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    if b'engine_process' in (folder / 'cmdline').read_bytes() and int(folder.name) != os.getpid():\n"
        "        os.kill(int(folder.name), signal.SIGKILL)\n"
    )
    kube.kubectl("exec", pod, "--", "python", "-c", find_and_kill)
    eventually(lambda: kube.condition(chat)["status"] == "False", "the status tells")
    kube.wait_ready(chat)
    (after,) = kube.pods(chat)
    assert after["metadata"]["name"] == pod
    assert after["status"]["containerStatuses"][0]["restartCount"] == 1
    assert "Paris" in client.ask(f"http://{chat}.{kube.namespace}.svc/v1", chat)
