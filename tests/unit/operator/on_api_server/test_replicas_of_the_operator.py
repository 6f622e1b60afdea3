"""Two replicas of the operator: one works, and the other takes over."""

import json
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from live import ROOT, SMALLEST, Kubernetes, Operator, helm_program, llmservice
from patience import eventually

pytestmark = pytest.mark.cluster

RELEASE, PLACE = "pair", "paired"
LEASE = "pair-operator"


@pytest.fixture(scope="module")
def token(kubernetes: Kubernetes) -> Iterator[str]:
    """Of an account with the rights that the chart gives the replicas."""
    kubernetes.kubectl("create", "namespace", PLACE)
    settings = [f"--set=namespaces={{{PLACE}}}", "--set=crds.enabled=false,replicas=2", "--namespace=octavo-system"]
    command = [helm_program(), "template", RELEASE, str(ROOT / "charts/octavo"), *settings]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = [item for item in yaml.safe_load_all(rendered) if item]
    rights = [item for item in objects if item["kind"] in ("Role", "RoleBinding", "ServiceAccount")]
    kubernetes.kubectl("apply", "-f", "-", document=yaml.safe_dump_all(rights))
    yield kubernetes.kubectl("create", "token", "pair-operator", "--namespace=octavo-system").strip()
    kubernetes.kubectl("delete", "namespace", PLACE, "--wait=false")


@pytest.fixture
def replicas(api_server: Any, token: str) -> Iterator[tuple[Operator, Operator]]:
    def replica(name: str) -> Operator:
        log = api_server.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        return Operator(
            api_server.kubeconfig(name, token),
            log,
            OCTAVO_NAMESPACES=PLACE,
            OCTAVO_INSTALLATION="octavo-system/pair",
            OCTAVO_LEADER_LEASE=f"octavo-system/{LEASE}",
            OCTAVO_REPLICA=name,
        )

    two = replica("replica-one"), replica("replica-two")
    yield two
    for each in two:
        if each.is_running:
            each.stop()


def holder(kubernetes: Kubernetes) -> str:
    out = "--output=jsonpath={.spec.holderIdentity}"
    return kubernetes.kubectl("get", "lease", LEASE, "--namespace=octavo-system", out, check=False)


def serve(kubernetes: Kubernetes, name: str) -> None:
    """A new service gets its status."""
    document = json.loads(llmservice(name, SMALLEST))
    document["metadata"]["namespace"] = PLACE
    kubernetes.kubectl("apply", "-f", "-", document=json.dumps(document))
    out = '--output=jsonpath={.status.conditions[?(@.type=="Ready")].reason}'
    eventually(
        lambda: kubernetes.kubectl("get", "llmservice", name, f"--namespace={PLACE}", out) == "Starting",
        what=f"a status of {name}",
    )


def test_the_other_takes_over_from_one_that_is_killed_and_from_one_that_ends(
    replicas: tuple[Operator, Operator], kubernetes: Kubernetes
) -> None:
    one, two = replicas
    one.start()
    eventually(lambda: holder(kubernetes) == "replica-one", what=one.log)
    two.start()
    serve(kubernetes, "first")
    eventually(lambda: "replica-one leads" in two.log(), what=two.log)

    one.stop(signal.SIGKILL)
    eventually(lambda: holder(kubernetes) == "replica-two", what=two.log)
    serve(kubernetes, "second")

    one.start()
    eventually(lambda: "replica-two leads" in one.log(), what=one.log)
    assert two.stop() == 0
    eventually(lambda: holder(kubernetes) == "replica-one", what=one.log)
    serve(kubernetes, "third")
    assert "Traceback" not in one.log() + two.log()


def test_one_that_waits_ends_when_it_is_told_to(replicas: tuple[Operator, Operator], kubernetes: Kubernetes) -> None:
    one, two = replicas
    one.start()
    eventually(lambda: "leads" in one.log(), what=one.log)
    two.start()
    eventually(lambda: "replica-one leads" in two.log(), what=two.log)
    assert two.stop() == 0
    assert holder(kubernetes) == "replica-one"
