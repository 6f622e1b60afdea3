"""The operator on a real API server, with the rights that the chart gives it. No node runs the pods: their status is
written by the tests, as a kubelet would."""

import asyncio
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient
from random_templates import templates

from octavo_operator.cluster import Connection, Notice
from octavo_operator.control.claims import Claims
from octavo_operator.control.reconcile import reconcile
from octavo_operator.resources.overlay import KEYS
from octavo_operator.settings import Settings

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
BAD_SPECS = yaml.safe_load((Path(__file__).parent / "api/bad_specs.yaml").read_text())
SMALLEST = {"model": {"uri": "builtin://smollm2"}}
CHILDREN = ("deployment", "service", "serviceaccount", "poddisruptionbudget", "configmap", "horizontalpodautoscaler")


def llmservice(name: str, spec: dict[str, Any]) -> str:
    metadata = {"name": name, "namespace": "default"}
    return json.dumps(
        {"apiVersion": "serving.octavo.dev/v1alpha1", "kind": "LLMService", "metadata": metadata, "spec": spec}
    )


# What waits for Kubernetes' own controllers waits so long: they take their time on a busy machine.
PATIENCE = 90.0


def eventually(holds: Callable[[], Any], seconds: float = PATIENCE, *, what: str | Callable[[], str] = "") -> Any:
    """The first true value of `holds()`; fails after `seconds`, with `what` was missed and what was seen last."""
    end = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > end:
            missed = what() if callable(what) else what
            pytest.fail(f"not within {seconds} s: {missed or holds}; last seen: {found!r}")
        time.sleep(0.1)


class Kubernetes:
    """kubectl with JSON answers."""

    def __init__(self, kubectl: Callable[..., str]) -> None:
        self.kubectl = kubectl

    def apply(self, name: str, spec: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", document=llmservice(name, spec))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        out = self.kubectl("get", kind, name, "-o", "json", "--show-managed-fields", check=False)
        return json.loads(out) if out.startswith("{") else None

    def labelled(self, kind: str, selector: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-l", selector, "-o", "json"))["items"]
        return found

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        service = self.get("llmservice", name) or {}
        found = [item for item in service.get("status", {}).get("conditions", []) if item["type"] == type_]
        return found[0] if found else {}

    def reason(self, name: str) -> str:
        return str(self.condition(name, "Ready").get("reason", ""))

    def events(self, name: str) -> list[dict[str, Any]]:
        out = self.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "json")
        return [item for item in json.loads(out)["items"] if item["involvedObject"]["kind"] == "LLMService"]

    def writes(self) -> int:
        """Write requests of the operator so far, from the API server's own count (leases and events left out)."""
        text = self.kubectl("get", "--raw=/metrics")
        counted = r'apiserver_request_total\{[^}]*code="20.",[^}]*resource="(\w+)"[^}]*verb="(?:APPLY|POST|DELETE)"'
        pattern = counted + r"[^}]*\} (\d+)"
        kinds = ("llmservices", "deployments", "services", "serviceaccounts", "configmaps", "poddisruptionbudgets")
        return sum(int(count) for kind, count in re.findall(pattern, text) if kind in kinds)


class Operator:
    """The operator as a process of its own."""

    def __init__(self, kubeconfig: Path, log: Path, **environment: str) -> None:
        self._environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "OCTAVO_RUNTIME_IMAGE": "octavo.local/demo:1",
            "OCTAVO_HEALTH_PORT": "18081",
            "OCTAVO_METRICS_PORT": "18082",
            "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'runtime'}",
            **environment,
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "octavo_operator"], env=self._environment, stdout=log, stderr=log
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(PATIENCE)

    def run(self, module: str, *arguments: str) -> str:
        """Run another module as the operator's account; returns what it said."""
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        ).stdout

    def log(self) -> str:
        return self._log.read_text()


def helm_program() -> str:
    """Helm; skips where there is none."""
    folders = f"{os.environ.get('OCTAVO_BIN', '')}:{Path.home() / '.cache/octavo/bin'}:{os.environ['PATH']}"
    helm = shutil.which("helm", path=folders)
    if helm is None:
        pytest.skip("no helm (set OCTAVO_BIN to its folder)")
    return helm


@pytest.fixture(scope="module")
def kubernetes(api_server: Any) -> Kubernetes:
    helm = helm_program()
    api_server.kubectl("create", "namespace", "octavo-system")
    installed = subprocess.run(
        [helm, "install", "octavo", ROOT / "charts/octavo", "--namespace=octavo-system"],
        env=os.environ | {"KUBECONFIG": str(api_server.folder / "admin.kubeconfig")},
        capture_output=True,
        text=True,
    )
    assert installed.returncode == 0, installed.stderr
    return Kubernetes(api_server.kubectl)


@pytest.fixture(scope="module")
def operator(api_server: Any, kubernetes: Kubernetes) -> Iterator[Operator]:
    token = kubernetes.kubectl("create", "token", "octavo-operator", "--namespace=octavo-system").strip()
    running = Operator(api_server.kubeconfig("operator", token), api_server.folder / "operator.log")
    running.start()
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log()
    assert "forbidden: User" not in running.log(), "it lacks a right"


@pytest.fixture
def name(kubernetes: Kubernetes, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name of the test's own; what is called so is deleted at the end."""
    own = "s" + str(abs(hash(request.node.name)) % 10**8)
    yield own
    kubernetes.kubectl("delete", "llmservice", own, "--ignore-not-found", "--wait=false")


def set_pod_status(kubernetes: Kubernetes, name: str, status: dict[str, Any]) -> None:
    pods = eventually(lambda: kubernetes.labelled("pods", f"serving.octavo.dev/service={name}"), what="a pod")
    for pod in pods:
        kubernetes.kubectl(
            "patch", "pod", pod["metadata"]["name"], "--subresource=status", "-p", json.dumps({"status": status})
        )


READY = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
}


AT_APPLY = [case for case in BAD_SPECS if "server" in case]


@pytest.mark.parametrize("case", AT_APPLY, ids=lambda case: yaml.safe_dump(case["spec"], default_flow_style=True)[:80])
def test_bad_spec_is_refused_at_apply(kubernetes: Kubernetes, case: dict[str, Any]) -> None:
    document = llmservice(case.get("name", "bad"), case["spec"])
    said = kubernetes.kubectl("apply", "-f", "-", document=document, check=False)
    assert [word for word in case["server"] if word not in said] == [], said
    assert kubernetes.get("llmservice", case.get("name", "bad")) is None


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_example_is_accepted(kubernetes: Kubernetes, path: Path) -> None:
    said = kubernetes.kubectl("apply", "--dry-run=server", "-f", str(path))
    assert "created" in said


def test_from_apply_to_ready(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"autoscaling": {"maxReplicas": 3}})
    for kind in CHILDREN:
        child = f"{name}-dashboard" if kind == "configmap" else name
        live = eventually(lambda kind=kind, child=child: kubernetes.get(kind, child), what=f"{kind} {child}")
        assert live["metadata"]["ownerReferences"][0]["name"] == name
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    set_pod_status(kubernetes, name, READY)
    kubernetes.kubectl("wait", "--for=condition=Ready", f"llmservice/{name}", "--timeout=50s")
    service = kubernetes.get("llmservice", name)
    assert service is not None
    assert "finalizers" not in service["metadata"]
    assert [key for key in service["metadata"]["annotations"] if "kubectl" not in key] == []
    columns = kubernetes.kubectl("get", "llmservice", name).splitlines()
    assert columns[0].split() == ["NAME", "READY", "REASON", "REPLICAS", "URL", "AGE"]
    assert columns[1].split()[:5] == [name, "True", "Serving", "1/1", f"http://{name}.default.svc/v1"]
    told = {event["message"] for event in kubernetes.events(name)}
    assert {f"created Deployment {name}", f"created Service {name}", "1 of 1 replicas answer"} <= told


@pytest.mark.parametrize("kind", CHILDREN)
def test_deleted_child_is_back(operator: Operator, kubernetes: Kubernetes, name: str, kind: str) -> None:
    kubernetes.apply(name, SMALLEST | {"autoscaling": {"maxReplicas": 3}})
    child = f"{name}-dashboard" if kind == "configmap" else name
    live = eventually(lambda: kubernetes.get(kind, child), what=f"{kind} {child}")
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name), what="everything")
    kubernetes.kubectl("delete", kind, child, "--cascade=background")
    eventually(
        lambda: (kubernetes.get(kind, child) or live)["metadata"]["uid"] != live["metadata"]["uid"],
        what=lambda: f"it is back: {kubernetes.condition(name, 'Ready')}",
    )


def test_edited_child_is_put_right(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.kubectl("set", "image", f"deployment/{name}", "engine=elsewhere:1")
    kubernetes.kubectl("scale", f"deployment/{name}", "--replicas=4")

    def restored() -> bool:
        spec = (kubernetes.get("deployment", name) or {})["spec"]
        return (spec["template"]["spec"]["containers"][0]["image"], spec["replicas"]) == ("octavo.local/demo:1", 1)

    eventually(restored, what="image and replicas as before")


def test_edit_of_the_service_rolls_the_pods(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}})
    eventually(lambda: kubernetes.labelled("pods", f"serving.octavo.dev/service={name}"), what="a pod")
    kubernetes.apply(name, SMALLEST | {"engine": {"maxModelLen": 512}})

    def template() -> dict[str, Any]:
        found: dict[str, Any] = (kubernetes.get("deployment", name) or {})["spec"]["template"]["spec"]
        return found

    eventually(lambda: "--max-model-len" in template()["containers"][0]["args"], what="the new flag")
    assert "nodeSelector" not in template()


def test_autoscaler_takes_over_and_gives_back(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    def replicas() -> int:
        return int((kubernetes.get("deployment", name) or {"spec": {"replicas": -1}})["spec"]["replicas"])

    kubernetes.apply(name, SMALLEST | {"replicas": 3})
    eventually(lambda: replicas() == 3, what="three replicas")
    kubernetes.apply(name, SMALLEST | {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name), what="the autoscaler")
    assert replicas() == 3, "the hand-over must not reset the replicas"
    kubernetes.kubectl("scale", f"deployment/{name}", "--replicas=4")
    time.sleep(1)
    assert replicas() == 4, "the operator must leave the autoscaler's number alone"
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    eventually(lambda: replicas() == 2, what="two replicas")
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name) is None, what="the autoscaler is gone")


def test_scale_subresource(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.kubectl("scale", "llmservice", name, "--replicas=2")
    eventually(lambda: (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2, what="two replicas")
    kubernetes.kubectl("scale", "llmservice", name, "--replicas=0")
    eventually(lambda: kubernetes.reason(name) == "ScaledToZero", what="ScaledToZero")
    scale = json.loads(
        kubernetes.kubectl(
            "get", "--raw", f"/apis/serving.octavo.dev/v1alpha1/namespaces/default/llmservices/{name}/scale"
        )
    )
    assert scale["status"]["selector"] == f"serving.octavo.dev/service={name}"


def test_delete_takes_everything_along(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"autoscaling": {"maxReplicas": 2}})
    eventually(lambda: kubernetes.get("horizontalpodautoscaler", name), what="everything")
    kubernetes.kubectl("delete", "llmservice", name, "--timeout=50s")
    selector = f"serving.octavo.dev/service={name}"
    for kind in CHILDREN:
        eventually(
            lambda kind=kind: kubernetes.labelled(kind, selector) == [],
            what=lambda kind=kind: f"no {kind}: {kubernetes.kubectl('get', kind, '-l', selector, '-o', 'wide')}",
        )


def test_deleted_and_made_again(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.kubectl("delete", "llmservice", name)
    kubernetes.apply(name, SMALLEST)
    uid = (kubernetes.get("llmservice", name) or {})["metadata"]["uid"]

    def owned_by_the_new_one() -> bool:
        deployment = kubernetes.get("deployment", name)
        return deployment is not None and deployment["metadata"]["ownerReferences"][0]["uid"] == uid

    eventually(
        owned_by_the_new_one,
        what=lambda: f"a Deployment of the new service: {kubernetes.condition(name, 'Ready')}",
    )
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")


def test_name_conflict(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.kubectl("create", "service", "clusterip", name, "--tcp=80")
    before = (kubernetes.get("service", name) or {})["metadata"]["resourceVersion"]
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "NameConflict", what="NameConflict")
    assert f"Service {name} exists" in kubernetes.condition(name, "Ready")["message"]
    assert kubernetes.get("deployment", name) is None
    assert (kubernetes.get("service", name) or {})["metadata"]["resourceVersion"] == before
    kubernetes.kubectl("delete", "service", name)
    eventually(lambda: kubernetes.get("deployment", name), what="the conflict is over")


def test_template_that_the_api_server_refuses(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    before = eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"containers": [{"name": "sidecar"}]}}})
    eventually(lambda: kubernetes.reason(name) == "Refused", what="Refused")
    assert kubernetes.condition(name, "Valid")["status"] == "False"
    assert "spec.template.spec.containers[1].image" in kubernetes.condition(name, "Valid")["message"]
    after = kubernetes.get("deployment", name)
    assert after is not None
    assert after["spec"] == before["spec"]
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"noSuchField": 1}}})
    eventually(lambda: "noSuchField" in kubernetes.condition(name, "Valid")["message"], what="the field is named")


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {
                "containerStatuses": [
                    {
                        "name": "engine",
                        "image": "octavo.local/demo:1",
                        "imageID": "",
                        "ready": False,
                        "restartCount": 0,
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
                    }
                ]
            },
            "ImagePullBackOff",
            "no such image",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
                    }
                ]
            },
            "Unschedulable",
            "add a node with one",
        ),
    ],
)
def test_root_cause_of_a_pod(
    operator: Operator, kubernetes: Kubernetes, name: str, status: dict[str, Any], reason: str, words: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    set_pod_status(kubernetes, name, status)
    eventually(lambda: kubernetes.reason(name) == reason, what=reason)
    assert words in kubernetes.condition(name, "Ready")["message"]
    eventually(
        lambda: [e for e in kubernetes.events(name) if (e["type"], e["reason"]) == ("Warning", reason)], what="event"
    )


def test_nothing_is_written_when_nothing_changes(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"resources": {"cpu": "0.5", "memory": "1024Mi"}})
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    time.sleep(2)
    before = kubernetes.writes()
    kubernetes.kubectl("annotate", "llmservice", name, "example.com/look=again")
    kubernetes.kubectl("label", "deployment", name, "example.com/look=again")
    time.sleep(2)
    assert kubernetes.writes() == before


def test_installation_check(operator: Operator, kubernetes: Kubernetes) -> None:
    """What `helm test` runs, as the operator's account; the operator's Deployment has no node to run on here."""
    arguments = ["--namespace", "default", "--deployment", "octavo-operator"]
    said = operator.run("octavo_operator.control.installation", *arguments)
    assert "llmservices in all namespaces" in said
    assert "the operator is not up: kubectl --namespace default describe deployment octavo-operator" in said


def test_operator_that_was_away_catches_up(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    other = f"{name}-b"
    kubernetes.apply(name, SMALLEST)
    kubernetes.apply(other, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name) and kubernetes.get("deployment", other), what="both")
    operator.stop(signal.SIGKILL)
    kubernetes.kubectl("delete", "deployment", name)
    kubernetes.kubectl("delete", "llmservice", other, "--timeout=50s")
    eventually(
        lambda: kubernetes.get("deployment", other) is None,
        what=lambda: f"owned objects go without the operator: {kubernetes.get('deployment', other)}",
    )
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    operator.start()
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment is back")
    assert (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2
    assert operator.stop() == 0
    operator.start()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"metadata": {"annotations": {"prometheus.io/scrape": False}}}, ""),
        ({"spec": {"containers": [{"name": "engine", "env": [{"name": "A", "value": 1}]}]}}, ""),
        ({"spec": {"nodeSelector": {"gpu": True}}}, ""),
        ({"spec": {"terminationGracePeriodSeconds": "abc"}}, "terminationGracePeriodSeconds: must be a whole number"),
        ({"spec": {"containers": {"engine": {}}}}, "containers: must be a list"),
        ({"metadata": {"labels": ["a"]}}, "labels: must be a map"),
    ],
)
def test_wrong_types_in_a_template_leave_no_service_without_a_status(
    operator: Operator, kubernetes: Kubernetes, name: str, template: dict[str, Any], said: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    kubernetes.apply(name, SMALLEST | {"podTemplate": template})

    def observed() -> bool:
        service = kubernetes.get("llmservice", name) or {}
        return bool(service["status"]["observedGeneration"] == service["metadata"]["generation"] == 2)

    eventually(observed, what="a status of the present generation")
    assert kubernetes.reason(name) == ("InvalidSpec" if said else "Starting")
    if said:
        assert said in kubernetes.condition(name, "Valid")["message"]
        assert kubernetes.condition(name, "Stalled")["status"] == "True"


def test_what_a_hand_wrote_is_taken_away(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    before = (kubernetes.get("deployment", name) or {})["spec"]
    kubernetes.kubectl("set", "env", f"deployment/{name}", "ROGUE=1")
    added = {"priorityClassName": "x", "containers": [{"name": "b", "image": "bad"}]}
    kubernetes.kubectl("patch", "deployment", name, "-p", json.dumps({"spec": {"template": {"spec": added}}}))
    kubernetes.kubectl("patch", "deployment", name, "-p", '{"spec": {"paused": true}}')
    port = [{"op": "replace", "path": "/spec/ports/0/port", "value": 9999}]
    kubernetes.kubectl("patch", "service", name, "--type=json", "-p", json.dumps(port))
    eventually(
        lambda: (kubernetes.get("deployment", name) or {})["spec"] == before,
        what=lambda: f"as before: {(kubernetes.get('deployment', name) or {})['spec']}",
    )
    eventually(
        lambda: [item["port"] for item in (kubernetes.get("service", name) or {})["spec"]["ports"]] == [80],
        what="the port as before",
    )
    kubernetes.kubectl("rollout", "restart", f"deployment/{name}")
    time.sleep(2)
    template = (kubernetes.get("deployment", name) or {})["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"], "a restart is anybody's right"


def test_scale_can_be_read_and_an_autoscaler_of_the_service_is_no_conflict(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    path = f"/apis/serving.octavo.dev/v1alpha1/namespaces/default/llmservices/{name}/scale"
    assert json.loads(kubernetes.kubectl("get", "--raw", path))["spec"]["replicas"] == 1
    kubernetes.kubectl("autoscale", "llmservice", name, "--min=2", "--max=3")
    try:
        eventually(
            lambda: (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2,
            what=lambda: f"two replicas: {kubernetes.kubectl('describe', 'hpa', name)}",
        )
        assert kubernetes.reason(name) == "Starting"
    finally:
        kubernetes.kubectl("delete", "hpa", name)


def test_an_autoscaler_of_the_deployment_is_respected(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.kubectl("autoscale", "deployment", name, "--name", f"{name}-theirs", "--min=2", "--max=3")
    try:
        eventually(lambda: (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2, what="two replicas")
        kubernetes.apply(name, SMALLEST | {"engine": {"maxModelLen": 512}})
        eventually(
            lambda: "--max-model-len" in json.dumps(kubernetes.get("deployment", name)), what="the edit is carried out"
        )
        assert (kubernetes.get("deployment", name) or {})["spec"]["replicas"] == 2
    finally:
        kubernetes.kubectl("delete", "hpa", f"{name}-theirs")


def test_orphans_can_be_adopted(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    uid = (kubernetes.get("deployment", name) or {})["metadata"]["uid"]
    kubernetes.kubectl("delete", "llmservice", name, "--cascade=orphan", "--timeout=50s")
    eventually(
        lambda: "ownerReferences" not in (kubernetes.get("deployment", name) or {})["metadata"], what="an orphan"
    )
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "NameConflict", what="NameConflict")
    assert "serving.octavo.dev/adopt=true" in kubernetes.condition(name, "Ready")["message"]
    kubernetes.kubectl("annotate", "llmservice", name, "serving.octavo.dev/adopt=true")
    eventually(
        lambda: kubernetes.reason(name) == "Starting", what=lambda: f"adopted: {kubernetes.condition(name, 'Ready')}"
    )
    deployment = kubernetes.get("deployment", name) or {}
    assert deployment["metadata"]["uid"] == uid
    assert deployment["metadata"]["ownerReferences"][0]["name"] == name


def test_a_service_at_zero_on_request_is_settled(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST | {"replicas": 0})
    kubernetes.kubectl("wait", "--for=condition=Ready", f"llmservice/{name}", "--timeout=50s")
    assert kubernetes.reason(name) == "ScaledToZero"
    assert {event["type"] for event in kubernetes.events(name)} == {"Normal"}


class DryRun(Connection):
    """One service, made anew at each round: every write is a dry run, but the status, which is kept here."""

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self.body: dict[str, Any] = {}
        self.status: dict[str, Any] = {}

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.body if kind == "LLMService" else None

    async def write_status(self, service: dict[str, Any], status: dict[str, Any]) -> None:
        self.status = status

    async def notify(self, service: dict[str, Any], notice: Notice) -> None:
        return

    async def _request(self, method: str, path: str, **parameters: Any) -> dict[str, Any] | None:
        return await super()._request(method, path, **parameters | ({} if method == "get" else {"dry_run": "All"}))


@pytest.mark.slow
def test_no_template_leaves_a_service_without_a_status_whatever_the_api_server_says(
    api_server: Any, kubernetes: Kubernetes
) -> None:
    """Random templates, held to the real validation by server-side dry runs."""
    settings = Settings(runtime_image="octavo.local/demo:1", installation="random")
    outcomes: Counter[str] = Counter()

    async def connection() -> ApiClient:
        await config.load_kube_config(config_file=str(api_server.folder / "admin.kubeconfig"))
        return ApiClient()

    async def looked_at(template: Any) -> dict[str, Any]:
        metadata = {"namespace": "default", "name": "random", "uid": "1-2", "generation": 7}
        cluster.body = {
            "apiVersion": "serving.octavo.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": metadata,
            "spec": SMALLEST | {"podTemplate": template},
        }
        claims = Claims(cluster, settings.installation, lambda: datetime.datetime.now(datetime.UTC))
        await reconcile(cluster, claims, settings, "default", "random")
        return cluster.status

    @given(templates)
    @hypothesis_settings(max_examples=int(os.environ.get("OCTAVO_EXAMPLES", "100")), deadline=None, database=None)
    def look(template: Any) -> None:
        status = loop.run(looked_at(template))
        conditions = {item["type"]: item for item in status["conditions"]}
        assert status["observedGeneration"] == 7
        assert conditions["Ready"]["reason"] in ("InvalidSpec", "Refused", "Starting"), conditions["Ready"]
        assert conditions["Valid"]["message"]
        outcomes[conditions["Ready"]["reason"]] += 1

    with asyncio.Runner() as loop:
        api = loop.run(connection())
        cluster = DryRun(api)
        try:
            look()
        finally:
            loop.run(api.close())
    print(dict(outcomes))
    assert set(outcomes) == {"InvalidSpec", "Refused", "Starting"}, "each way is gone"


@pytest.mark.slow
def test_tools_that_go_by_kstatus_wait_for_the_truth(
    operator: Operator, kubernetes: Kubernetes, name: str, kstatus: Path
) -> None:
    """kstatus is what Helm 4, Flux and others wait by."""

    def said_of(service: dict[str, Any]) -> str:
        done = subprocess.run([kstatus], input=json.dumps(service), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def said() -> str:
        return said_of(kubernetes.get("llmservice", name) or {})

    def becomes(status: str, message: str = "") -> None:
        eventually(
            lambda: said().startswith(status) and message in said(), what=lambda: f"{status} ({message}): {said()}"
        )

    document = llmservice(name, SMALLEST)
    fresh = kubernetes.kubectl("create", "--dry-run=server", "--output=json", "-f", "-", document=document)
    assert said_of(json.loads(fresh)).startswith("InProgress"), "nobody has looked at it"
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    assert said().startswith("InProgress")
    set_pod_status(kubernetes, name, READY)
    becomes("Current")
    edited = kubernetes.get("llmservice", name) or {}
    edited["metadata"]["generation"] += 1
    assert said_of(edited).startswith("InProgress"), "a status of a former generation"

    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"terminationGracePeriodSeconds": "abc"}}})
    becomes("Failed", "terminationGracePeriodSeconds: must be a whole number")
    kubernetes.apply(name, SMALLEST | {"replicas": 2})
    eventually(lambda: kubernetes.reason(name) == "Serving", what="one of two answers")
    becomes("Current")
    kubernetes.apply(name, SMALLEST | {"engine": {"maxModelLen": 512}})
    eventually(lambda: kubernetes.reason(name) == "RollingOut", what="RollingOut")
    assert said().startswith("InProgress")
    kubernetes.apply(name, SMALLEST | {"replicas": 0})
    becomes("Current")
    assert kubernetes.reason(name) == "ScaledToZero"


def test_merge_keys_are_those_of_kubernetes(kubernetes: Kubernetes) -> None:
    schemas = json.loads(kubernetes.kubectl("get", "--raw", "/openapi/v3/api/v1"))["components"]["schemas"]
    found = {}
    for kind in ("PodSpec", "Container"):
        for field, schema in schemas[f"io.k8s.api.core.v1.{kind}"]["properties"].items():
            if "x-kubernetes-list-map-keys" in schema:
                found[field] = tuple(schema["x-kubernetes-list-map-keys"])
    ours = {field: keys for field, keys in KEYS.items() if field in found}
    assert ours == {field: found[field] for field in ours}
    assert set(found) - set(KEYS) <= {"ephemeralContainers"}


def namespaced_operator(
    api_server: Any, kubernetes: Kubernetes, release: str, namespaces: Sequence[str], **environment: str
) -> Operator:
    """An operator, not started yet, with the rights that the chart gives a release for these namespaces."""
    served = ",".join(namespaces)
    settings = [f"--set=namespaces={{{served}}}", "--set=crds.enabled=false", "--namespace=octavo-system"]
    rendered = subprocess.run(
        [helm_program(), "template", release, ROOT / "charts/octavo", *settings],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    kinds = ("Role", "RoleBinding", "ServiceAccount")
    rights = [item for item in yaml.safe_load_all(rendered) if item and item["kind"] in kinds]
    kubernetes.kubectl("apply", "-f", "-", document=yaml.safe_dump_all(rights))
    token = kubernetes.kubectl("create", "token", f"{release}-operator", "--namespace=octavo-system").strip()
    own = {"OCTAVO_NAMESPACES": served, "OCTAVO_HEALTH_PORT": "18083", "OCTAVO_METRICS_PORT": "18084"}
    return Operator(api_server.kubeconfig(release, token), api_server.folder / f"{release}.log", **(own | environment))


def test_two_installations_over_one_namespace_do_not_fight(
    api_server: Any, operator: Operator, kubernetes: Kubernetes
) -> None:
    """The second is told of, and leaves the services alone until the first is gone."""
    within = "--namespace=contested"
    kubernetes.kubectl("create", "namespace", "contested")
    second = namespaced_operator(
        api_server,
        kubernetes,
        "second",
        ["contested"],
        OCTAVO_INSTALLATION="team/second",
        OCTAVO_RUNTIME_IMAGE="octavo.local/other:2",
    )

    def get(kind: str, field: str) -> str:
        return kubernetes.kubectl("get", kind, "chat", within, f"--output=jsonpath={{{field}}}", check=False)

    def image() -> str:
        return get("deployment", ".spec.template.spec.containers[0].image")

    def reason() -> str:
        return get("llmservice", '.status.conditions[?(@.type=="Ready")].reason')

    document = json.loads(llmservice("chat", SMALLEST))
    document["metadata"]["namespace"] = "contested"
    kubernetes.kubectl("apply", "-f", "-", document=json.dumps(document))
    eventually(lambda: image() == "octavo.local/demo:1", what="the first serves")
    (pod,) = eventually(
        lambda: json.loads(kubernetes.kubectl("get", "pods", within, "--output=json"))["items"], what="a pod"
    )
    ready = json.dumps({"status": READY})
    kubernetes.kubectl("patch", "pod", pod["metadata"]["name"], within, "--subresource=status", "-p", ready)
    eventually(lambda: reason() == "Serving", what="Serving")
    generation = get("deployment", ".metadata.generation")
    second.start()
    try:
        eventually(lambda: reason() == "Contended", what=lambda: f"the second is told of: {reason()} {second.log()}")
        message = get("llmservice", '.status.conditions[?(@.type=="Ready")].message')
        assert "installation team/second of the operator would serve this namespace too" in message
        arguments = ["--namespace=octavo-system", "--deployment=octavo-operator", "--serves=contested"]
        assert "installation team/second" in operator.run("octavo_operator.control.installation", *arguments)
        assert (image(), get("deployment", ".metadata.generation")) == ("octavo.local/demo:1", generation)

        operator.stop(signal.SIGKILL)
        eventually(lambda: image() == "octavo.local/other:2", 2 * PATIENCE, what=second.log)
        generation = get("deployment", ".metadata.generation")
        operator.start()
        eventually(lambda: "team/second serves it" in operator.log(), what=operator.log)
        assert (image(), get("deployment", ".metadata.generation")) == ("octavo.local/other:2", generation)
    finally:
        second.stop()
        kubernetes.kubectl("delete", "namespace", "contested", "--wait=false")


def test_a_namespace_that_goes_does_not_take_the_others_along(api_server: Any, kubernetes: Kubernetes) -> None:
    """An operator with the rights that the chart gives for two namespaces, told to serve a third that is not there."""
    served = ("team-a", "team-b")
    for namespace in served:
        kubernetes.kubectl("create", "namespace", namespace)
    running = namespaced_operator(api_server, kubernetes, "apart", served, OCTAVO_NAMESPACES="team-a,team-b,absent")

    def reported(namespace: str, name: str) -> bool:
        reason = '--output=jsonpath={.status.conditions[?(@.type=="Ready")].reason}'
        return kubernetes.kubectl("get", "llmservice", name, "--namespace", namespace, reason) == "Starting"

    def apply(namespace: str, name: str) -> None:
        kubernetes.kubectl("apply", "--namespace", namespace, "-f", "-", document=anywhere(name))

    def anywhere(name: str) -> str:
        document = json.loads(llmservice(name, SMALLEST))
        del document["metadata"]["namespace"]
        return json.dumps(document)

    running.start()
    try:
        for namespace in served:
            apply(namespace, "before")
        for namespace in served:
            eventually(lambda namespace=namespace: reported(namespace, "before"), what=running.log)
        kubernetes.kubectl("delete", "namespace", "team-b", "--timeout=60s")
        eventually(lambda: "namespace absent cannot be served" in running.log(), what=running.log)
        apply("team-a", "after")
        eventually(lambda: reported("team-a", "after"), what=running.log)
        assert "Traceback" not in running.log()
    finally:
        ended = running.stop()
        kubernetes.kubectl("delete", "namespace", "team-a", "--wait=false")
    assert ended == 0
