"""The cluster, Octavo installed on it from the chart, a client inside it, and a service that most tests share."""

import fcntl
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import target
import yaml
from paths import CACHE
from steps import StepFailed
from traces import traces

sys.path.insert(0, str(Path(__file__).parent))

from client import Client  # found by the line above
from kube import Kube
from patience import eventually
from release import DEFINITION, NAME, OPERATOR, Release, put_definition_back

FIRST, SECOND = f"{NAME}-one", f"{NAME}-two"
GPU = "nvidia.com/gpu"
CHAT = Path(__file__).parents[2] / "examples" / "chat.yaml"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def place() -> Iterator[target.Target]:
    """The cluster; it goes at the end unless it was there before, and leaves the machine as it was."""
    if (reason := target.impossible()) is not None:
        pytest.skip(reason)
    with _alone():
        was_up = target.exists()
        before = traces() if target.choose() == "own" and not was_up else None
        try:
            found = target.ensure()
        except StepFailed as failure:
            if target.choose() == "KUBECONFIG":
                pytest.skip(f"{failure.reason}; {failure.advice}")
            raise
        yield found
        if not was_up:
            target.remove()
        if before is not None:
            assert traces() - before == set(), "the cluster left something behind"


@contextmanager
def _alone() -> Iterator[None]:
    """One session at a time on this machine: release, namespaces and an own cluster are the same for all."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "e2e.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def release(place: target.Target) -> Iterator[Release]:
    """The chart, installed for two namespaces of the tests' own."""
    kube = Kube(place.environment, NAME)
    namespaces = (NAME, FIRST, SECOND)
    kube.delete("namespace", *namespaces, wait=True)
    paused = _pause_other_operators(kube, place.name)
    definition = kube.get("crd", DEFINITION)
    installed = Release(kube, place.images, (FIRST, SECOND))
    try:
        for namespace in namespaces:
            kube.kubectl("create", "namespace", namespace)
        installed.install()
        yield installed
        log = kube.kubectl("logs", f"deployment/{OPERATOR}")
        assert "Traceback" not in log
        assert "forbidden: User" not in log, "it lacks a right"
    finally:
        for served in (kube.within(FIRST), kube.within(SECOND)):
            _empty(served)
        installed.uninstall()
        kube.delete("namespace", *namespaces, wait=True)
        put_definition_back(kube, definition)
        for namespace, name, replicas in paused:
            kube.within(namespace).kubectl("scale", f"deployment/{name}", f"--replicas={replicas}")


def _empty(kube: Kube) -> None:
    """Delete all services and wait for their pods: a namespace that goes with pods in it takes half their grace."""
    kube.kubectl("delete", "llmservice", "--all", "--wait=false")
    eventually(lambda: kube.all("pods") == [], lambda: f"no pods: {kube.kubectl('get', 'pods')}")


def _pause_other_operators(kube: Kube, place: str) -> list[tuple[str, str, int]]:
    """(namespace, name, replicas) of each operator that would serve our namespaces too, such as the demo's."""
    label = "app.kubernetes.io/name=octavo-operator"
    listed = kube.kubectl("get", "deployments", "--all-namespaces", f"--selector={label}", "--output=json")
    found = [
        (item["metadata"]["namespace"], item["metadata"]["name"], item["spec"]["replicas"])
        for item in json.loads(listed)["items"]
    ]
    if found and place == "KUBECONFIG":
        pytest.skip(f"an Octavo operator serves this cluster already: {found[0][1]} in namespace {found[0][0]}")
    for namespace, name, _ in found:
        kube.within(namespace).kubectl("scale", f"deployment/{name}", "--replicas=0")
    return found


@pytest.fixture(scope="session")
def kube(release: Release) -> Kube:
    """The first of the two namespaces."""
    return release.kube.within(FIRST)


@pytest.fixture(scope="session")
def other(release: Release) -> Kube:
    """The second of the two namespaces."""
    return release.kube.within(SECOND)


@pytest.fixture(scope="session")
def client(release: Release, place: target.Target) -> Client:
    """A pod to ask from, in the release's namespace."""
    made = Client(release.kube)
    made.start(place.images["demo"])
    return made


@pytest.fixture
def chat(kube: Kube) -> str:
    """examples/chat.yaml, Ready, with one pod whatever the load; tests may edit it and leave it edited."""
    document = yaml.safe_load(CHAT.read_text())
    document["spec"]["autoscaling"]["maxReplicas"] = 1
    name: str = document["metadata"]["name"]
    if kube.get("llmservice", name) is None:
        kube.apply(document)
    kube.wait_ready(name)
    return name


@pytest.fixture
def name(kube: Kube, other: Kube) -> Iterator[str]:
    """A name of the test's own: services called so are deleted at the end, in both namespaces."""
    own = f"own-{next(_numbers)}"
    yield own
    for place in (kube, other):
        place.delete("llmservice", own)


@pytest.fixture
def say_gpus(kube: Kube) -> Iterator[Callable[[str | None], str]]:
    """Makes a node say that it has so many GPUs, and returns its name; it has none again at the end."""
    node: str = kube.all("nodes")[0]["metadata"]["name"]
    if GPU in kube.all("nodes")[0]["status"]["allocatable"]:
        pytest.skip("the cluster has GPUs")

    def say_gpus(count: str | None) -> str:
        status = {part: {GPU: count} for part in ("capacity", "allocatable")}
        patch = json.dumps({"status": status})
        kube.kubectl("patch", "node", node, "--subresource=status", "--type=merge", "--patch", patch)
        return node

    yield say_gpus
    say_gpus(None)
