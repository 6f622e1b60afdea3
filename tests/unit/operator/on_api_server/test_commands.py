"""The `octavo` commands against a real API server, with the rights of the cluster's own roles."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live import READY, ROOT, SMALLEST, Kubernetes, Operator, set_pod_status
from patience import PATIENCE, eventually

pytestmark = pytest.mark.cluster

Octavo = Callable[..., "subprocess.CompletedProcess[str]"]
KILLED = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [
        {
            "name": "engine",
            "image": "octavo/runtime:1",
            "imageID": "",
            "ready": False,
            "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2026-01-01T00:00:00Z"}},
        }
    ],
}


@pytest.fixture
def octavo(api_server: Any, kubernetes: Kubernetes, name: str) -> Octavo:
    """Runs a command as a person who has one of the cluster's roles in the namespace."""

    def run(command: str, role: str, **options: Any) -> subprocess.CompletedProcess[str]:
        person = f"{name}-{role.replace(':', '-')}"
        kubernetes.kubectl("create", "serviceaccount", person, check=False)
        binding = ("create", "rolebinding", person, f"--clusterrole={role}", f"--serviceaccount=default:{person}")
        kubernetes.kubectl(*binding, check=False)
        token = kubernetes.kubectl("create", "token", person).strip()
        kubeconfig = str(api_server.kubeconfig(person, token))
        words = ["octavo", command, name, *(f"--{key}={value}" for key, value in options.items())]
        program = (
            f"import sys; sys.argv = {words!r}\n"
            "import typer\n"
            "from octavo_operator.commands import app\n"
            "from octavo_runtime.cli import app as cli\n"
            f"cli.app.command({command!r})(app.{command})\n"
            "cli.main()\n"
        )
        path = f"{ROOT / 'operator'}:{ROOT / 'runtime'}:{ROOT / 'kernels'}"
        return subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"KUBECONFIG": kubeconfig, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


def test_a_person_who_may_view_learns_why_and_which_right_is_missing(
    operator: Operator, kubernetes: Kubernetes, name: str, octavo: Octavo
) -> None:
    kubernetes.apply(name, SMALLEST | {"resources": {"memory": "1Gi"}})
    set_pod_status(kubernetes, name, KILLED)
    eventually(lambda: kubernetes.reason(name) == "OOMKilled", what="OOMKilled")
    done = octavo("why", "view", output="json", **{"for": "1s"})
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    (finding,) = told["findings"]
    assert (finding["rule"], finding["change"]) == ("PodOutOfMemory", {"spec": {"resources": {"memory": "1536Mi"}}})

    done = octavo("check", "view", output="json")
    assert done.returncode == 1, done.stderr
    items = {(each["section"], each["name"]): each for each in json.loads(done.stdout)["items"]}
    speed = items["performance", "speed"]
    assert (speed["verdict"], speed["evidence"]) == ("unknown", "missing right: create services/proxy")
    assert items["availability", "replicas"]["verdict"] == "fail"
    assert items["availability", "disruption budget"]["verdict"] == "pass"
    assert items["security", "pods"]["verdict"] == "pass"

    started = {"name": "engine", "image": "octavo/runtime:1", "imageID": "", "ready": True, "restartCount": 0}
    set_pod_status(kubernetes, name, READY | {"containerStatuses": [started | {"state": {"running": {}}}]})
    kubernetes.kubectl("wait", "--for=condition=Ready", f"llmservice/{name}", "--timeout=300s")
    done = octavo("why", "view", **{"for": "1s"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is wrong." in done.stdout
    assert "metrics: missing right: get pods/proxy" in done.stdout

    change = json.dumps(finding["change"])
    kubernetes.kubectl("patch", "llmservice", name, "--type=merge", "--patch", change)
    memory = (kubernetes.get("llmservice", name) or {})["spec"]["resources"]["memory"]
    assert memory == "1536Mi", "the API server takes the change"


def test_a_bundle_of_a_person_who_may_view_names_what_is_missing(
    operator: Operator, kubernetes: Kubernetes, name: str, octavo: Octavo, tmp_path: Path
) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    done = octavo("bundle", "view", file=tmp_path / "it.tar.gz")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "it.tar.gz").exists()
    assert "not read: operator: missing right: list deployments.apps" in done.stderr
    again = octavo("bundle", "view", file=tmp_path / "it.tar.gz")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "File exists" in again.stderr


def test_what_cannot_be_read_at_all_is_one_line(kubernetes: Kubernetes, name: str, octavo: Octavo) -> None:
    done = octavo("why", "view")
    assert (done.returncode, done.stderr) == (
        2,
        f"octavo: no LLMService '{name}' in namespace 'default', or the cluster has no Octavo\n",
    )
    done = octavo("why", "system:discovery")
    assert (done.returncode, done.stderr) == (
        2,
        f"octavo: llmservice {name}: missing right: get llmservices.serving.octavo.dev\n",
    )


def test_kubectl_knows_the_short_name_and_explains_every_field(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    head, row = kubernetes.kubectl("get", "llm", name, "--output=wide").splitlines()
    assert head.split() == ["NAME", "READY", "REASON", "REPLICAS", "URL", "AGE", "MODEL", "MESSAGE"]
    assert "builtin://smollm2" in row
    assert "0 of 1 replicas answer" in row
    explained = kubernetes.kubectl("explain", "llm.spec", "--recursive=false")
    assert "<no description>" not in explained
    for field, words in (("model.uri", "Where the model comes from"), ("engine.maxNumSeqs", "Most sequences")):
        assert words in kubernetes.kubectl("explain", f"llmservice.spec.{field}")


def test_the_role_edit_has_what_the_role_view_lacks(kubernetes: Kubernetes, name: str) -> None:
    for role, answer in (("view", "no"), ("edit", "yes")):
        kubernetes.kubectl("create", "rolebinding", f"{name}-{role}", f"--clusterrole={role}", f"--user={name}-{role}")
        for verb, resource in (("get", "pods/proxy"), ("create", "services/proxy"), ("get", "secrets")):
            asked = ("auth", "can-i", verb, *resource.replace("/", " --subresource=").split(), f"--as={name}-{role}")
            assert kubernetes.kubectl(*asked, check=False).split()[-1] == answer, f"{role}: {verb} {resource}"
        assert (
            kubernetes.kubectl("auth", "can-i", "get", "pods", "--subresource=log", f"--as={name}-{role}").split()[-1]
            == "yes"
        )
