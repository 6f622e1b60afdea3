"""How a change reaches pods: of the spec, of what the operator brings, and of the operator itself."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from live import READY, SMALLEST, Kubernetes, Operator, llmservice, namespaced_operator, set_pod_status
from patience import eventually

from octavo_operator.control.provenance import MADE_FROM

pytestmark = pytest.mark.cluster

NAMES = ("one", "two", "three")


class Fleet:
    """Three services in a namespace of their own, and the operators that serve them one after another."""

    def __init__(self, api_server: Any, kubernetes: Kubernetes, namespace: str) -> None:
        self._namespace = namespace
        self._api_server = api_server
        self._kubernetes = kubernetes
        self._running: Operator | None = None

    def kubectl(self, *words: str) -> str:
        return self._kubernetes.kubectl(*words, f"--namespace={self._namespace}")

    def operated(self, **environment: str) -> None:
        """Start the operator with these settings, in the place of the one before."""
        self.stop()
        self._running = namespaced_operator(
            self._api_server, self._kubernetes, "fleet", [self._namespace], OCTAVO_INSTALLATION="fleet", **environment
        )
        self._running.start()

    def stop(self) -> None:
        if self._running is not None:
            assert self._running.stop() in (0, -signal.SIGTERM), "the latter where it had hardly begun"
            assert "forbidden: User" not in self._running.log(), "it lacks a right"
            self._running = None

    def apply(self, name: str, **spec: Any) -> None:
        document = json.loads(llmservice(name, SMALLEST | spec))
        document["metadata"]["namespace"] = self._namespace
        self._kubernetes.kubectl("apply", "-f", "-", document=json.dumps(document))

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Objects of a kind by their names."""
        found = json.loads(self.kubectl("get", kind, "--output=json"))["items"]
        return {item["metadata"]["name"]: item for item in found}

    def images(self) -> dict[str, str]:
        """What each service's pods are to run."""
        return {
            name: item["spec"]["template"]["spec"]["containers"][0]["image"]
            for name, item in self.all("deployments").items()
        }

    def with_image(self, image: str) -> list[str]:
        return [name for name, runs in self.images().items() if runs == image]

    def answer(self, *names: str) -> None:
        """Let every pod of these services answer, as often as there is a new one, until all are of one template."""

        def answers() -> bool:
            for pod in self.all("pods").values():
                mine = pod["metadata"]["labels"]["serving.octavo.dev/service"] in names
                ready = any(item["type"] == "Ready" for item in pod.get("status", {}).get("conditions", []))
                if mine and not ready:
                    status = json.dumps({"status": READY})
                    self.kubectl("patch", "pod", pod["metadata"]["name"], "--subresource=status", "-p", status)
            return all(self.progressing(name)[0] == "False" and self.reason(name) == "Serving" for name in names)

        eventually(answers, lambda: f"{names} answer: {self.progressing(names[0])}")

    def condition(self, name: str, type_: str) -> dict[str, str]:
        status = self.all("llmservices")[name].get("status", {})
        return next((item for item in status.get("conditions", []) if item["type"] == type_), {})

    def reason(self, name: str) -> str:
        return self.condition(name, "Ready").get("reason", "")

    def progressing(self, name: str) -> tuple[str, str]:
        found = self.condition(name, "Progressing")
        return found.get("status", ""), found.get("reason", "")


@pytest.fixture
def fleet(api_server: Any, operator: Operator, kubernetes: Kubernetes, name: str) -> Iterator[Fleet]:
    """The services, all of them answering. The other operator, which serves all namespaces, is away meanwhile."""
    operator.stop()
    namespace = f"fleet-{name}"
    kubernetes.kubectl("create", "namespace", namespace)
    made = Fleet(api_server, kubernetes, namespace)
    try:
        made.operated(OCTAVO_RUNTIME_IMAGE="octavo.local/runtime:1")
        for name in NAMES:
            made.apply(name)
        eventually(lambda: len(made.all("pods")) == len(NAMES), "a pod of each")
        made.answer(*NAMES)
        yield made
    finally:
        made.stop()
        kubernetes.kubectl("delete", "namespace", namespace, "--wait=false")
        operator.start()
        kubernetes.apply("awake", SMALLEST)
        eventually(lambda: kubernetes.reason("awake") == "Starting", "it is at work again")
        kubernetes.kubectl("delete", "llmservice", "awake", "--wait=false")


def test_a_new_image_reaches_one_service_after_another(fleet: Fleet) -> None:
    new = "octavo.local/runtime:2"
    fleet.operated(OCTAVO_RUNTIME_IMAGE=new)
    for number in range(1, len(NAMES) + 1):

        def each_in_its_turn(number: int = number) -> bool:
            waiting = [name for name in NAMES if fleet.progressing(name) == ("False", "Queued")]
            return len(fleet.with_image(new)) == number and len(waiting) == len(NAMES) - number

        eventually(each_in_its_turn, lambda: f"one, then the next: {fleet.images()}")
        fleet.answer(*fleet.with_image(new))
    assert fleet.with_image(new) == sorted(NAMES)


def test_one_that_does_not_come_to_its_end_stops_the_rest(fleet: Fleet) -> None:
    new = "octavo.local/runtime:2"
    fleet.operated(OCTAVO_RUNTIME_IMAGE=new)
    (rolling,) = eventually(lambda: fleet.with_image(new), "a turn")
    fleet.operated(OCTAVO_RUNTIME_IMAGE=new)  # a restart gives no other a turn
    first, second = sorted({*NAMES} - {rolling})

    def waits(name: str) -> bool:
        said = fleet.condition(name, "Progressing").get("message", "")
        return said.endswith("1 service has its turn, 2 in all wait") and fleet.reason(name) == "Serving"

    eventually(lambda: waits(first) and waits(second), lambda: f"both wait: {fleet.condition(first, 'Progressing')}")
    assert fleet.progressing(rolling) == ("True", "RollingOut")

    template = fleet.all("deployments")[first]["spec"]["template"]
    fleet.kubectl("scale", "llmservice", first, "--replicas=2")
    eventually(lambda: fleet.all("deployments")[first]["spec"]["replicas"] == 2, "who waits is scaled")
    assert fleet.all("deployments")[first]["spec"]["template"] == template
    fleet.kubectl("patch", "llmservice", second, "--type=merge", "--patch", '{"spec":{"engine":{"maxModelLen":512}}}')
    eventually(lambda: sorted(fleet.with_image(new)) == sorted([rolling, second]), "a change of a spec is at once")

    fleet.operated(OCTAVO_RUNTIME_IMAGE="octavo.local/runtime:1")
    eventually(lambda: fleet.with_image("octavo.local/runtime:1"), "the former image comes back")


def test_an_upgrade_of_the_operator_restarts_no_engine(fleet: Fleet) -> None:
    before = fleet.all("pods").keys()
    fleet.kubectl("annotate", "deployment", "one", f"{MADE_FROM}-")  # as an earlier version left it
    same = {"OCTAVO_RUNTIME_IMAGE": "octavo.local/runtime:1"}
    fleet.operated(**same, OCTAVO_RESYNC="1h", OCTAVO_ROLLOUTS_AT_ONCE="5", OCTAVO_LOG_LEVEL="debug")
    fleet.apply("late")
    eventually(lambda: "late" in fleet.all("deployments"), "it is at work")
    assert {name for name in fleet.all("pods") if not name.startswith("late-")} == before
    note = eventually(lambda: fleet.all("deployments")["one"]["metadata"]["annotations"].get(MADE_FROM), "a note")
    assert "in_turn" not in note


def test_undo_is_the_former_spec(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    """A rollout that does not come to its end is taken back by the spec, and by nothing else."""
    kubernetes.apply(name, SMALLEST)
    set_pod_status(kubernetes, name, READY)
    eventually(lambda: kubernetes.reason(name) == "Serving", what="Serving")
    selector = f"serving.octavo.dev/service={name}"
    (pod,) = kubernetes.labelled("pods", selector)

    def template() -> dict[str, Any]:
        found: dict[str, Any] = (kubernetes.get("deployment", name) or {})["spec"]["template"]["spec"]
        return found

    kubernetes.apply(name, SMALLEST | {"image": "octavo.local/bad:1"})
    eventually(lambda: template()["containers"][0]["image"] == "octavo.local/bad:1", what="the new image")
    eventually(lambda: len(kubernetes.labelled("pods", selector)) == 2, what="a new pod beside the old one")
    kubernetes.kubectl("rollout", "undo", f"deployment/{name}")
    eventually(
        lambda: [event for event in kubernetes.events(name) if event["message"] == f"updated Deployment {name}"],
        what="it is written again",
    )
    eventually(lambda: template()["containers"][0]["image"] == "octavo.local/bad:1", what="what the spec says")
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: template()["containers"][0]["image"] == "octavo.local/demo:1", what="the former image")
    eventually(
        lambda: [item["metadata"]["uid"] for item in kubernetes.labelled("pods", selector)] == [pod["metadata"]["uid"]],
        what="the former pod alone",
    )
