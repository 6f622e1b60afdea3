"""The validating webhook of a release of two replicas, asked by a real API server at `kubectl apply`."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import ROOT, SMALLEST, Kubernetes, Operator, free_port, helm_program, lead_here, llmservice
from patience import eventually

pytestmark = pytest.mark.cluster

RELEASE, PLACE = "guard", "guarded"
CONFIGURATION = "octavo-system-guard-webhook"
BAD_SPECS = yaml.safe_load((Path(__file__).parents[1] / "api/bad_specs.yaml").read_text())
BEYOND_CEL = [case for case in BAD_SPECS if "server" not in case]
ROOT_USER = SMALLEST | {"podTemplate": {"spec": {"securityContext": {"runAsUser": 0}}}}


@pytest.fixture(scope="module")
def replicas(api_server: Any, kubernetes: Kubernetes) -> Iterator[tuple[Operator, Operator]]:
    """Both running; only one of them leads."""
    kubernetes.kubectl("create", "namespace", PLACE)
    chart = [RELEASE, str(ROOT / "charts/octavo"), "--namespace=octavo-system", "--set=crds.enabled=false,replicas=2"]
    settings = [f"--set=namespaces={{{PLACE}}}", "--set=webhook.enabled=true,webhook.failurePolicy=Fail"]
    environment = os.environ | {"KUBECONFIG": str(api_server.folder / "admin.kubeconfig")}
    command = [helm_program(), "install", *chart, *settings]
    installed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    token = kubernetes.kubectl("create", "token", "guard-operator", "--namespace=octavo-system").strip()
    ports = free_port(), free_port()

    def replica(name: str, port: int) -> Operator:
        return Operator(
            api_server.kubeconfig(name, token),
            api_server.folder / f"{name}.log",
            OCTAVO_NAMESPACES=PLACE,
            OCTAVO_INSTALLATION="octavo-system/guard",
            OCTAVO_LEADER_LEASE="octavo-system/guard-operator",
            OCTAVO_REPLICA=name,
            OCTAVO_WEBHOOK="octavo-system/guard-webhook",
            OCTAVO_WEBHOOK_PORT=str(port),
        )

    two = replica("guard-one", ports[0]), replica("guard-two", ports[1])
    lead_here(kubernetes, "guard-webhook", *ports)
    for each in two:
        each.start()
    for each in two:
        eventually(lambda each=each: "webhook: serves" in each.log(), what=each.log)
    yield two
    for each in two:
        if each.is_running:
            assert each.stop() == 0
        assert "Traceback" not in each.log()
        assert "forbidden: User" not in each.log(), "it lacks a right"
    kubernetes.kubectl("delete", "validatingwebhookconfiguration", CONFIGURATION)
    kubernetes.kubectl("delete", "namespace", PLACE, "--wait=false")
    uninstall = [helm_program(), "uninstall", RELEASE, "--namespace=octavo-system", "--ignore-not-found"]
    subprocess.run(uninstall, env=environment, check=True, capture_output=True)


def apply(kubernetes: Kubernetes, name: str, spec: dict[str, Any], namespace: str = PLACE) -> str:
    document = json.loads(llmservice(name, spec))
    document["metadata"]["namespace"] = namespace
    return kubernetes.kubectl("apply", "-f", "-", document=json.dumps(document), check=False)


@pytest.mark.parametrize(
    "case", BEYOND_CEL, ids=lambda case: yaml.safe_dump(case["spec"], default_flow_style=True)[:80]
)
def test_what_no_rule_of_the_definition_sees_is_refused_at_apply(
    replicas: tuple[Operator, Operator], kubernetes: Kubernetes, case: dict[str, Any]
) -> None:
    said = apply(kubernetes, "bad", case["spec"])
    assert "denied the request" in said
    assert [word for word in case["operator"] if word not in said] == [], said


def test_a_sound_service_and_an_edit_are_let_through_and_others_namespaces_are_not_asked_about(
    replicas: tuple[Operator, Operator], kubernetes: Kubernetes
) -> None:
    assert "created" in apply(kubernetes, "sound", SMALLEST)
    refused = apply(kubernetes, "sound", ROOT_USER)
    assert "spec.podTemplate.spec.securityContext.runAsUser: must be another than root's, got 0" in refused
    assert "configured" in apply(kubernetes, "sound", SMALLEST | {"replicas": 2})
    assert "created" in apply(kubernetes, "elsewhere", ROOT_USER, "kube-public")
    kubernetes.kubectl("delete", "llmservice", "elsewhere", "--namespace=kube-public")


def test_the_chart_is_upgraded_and_the_authority_stays(
    replicas: tuple[Operator, Operator], kubernetes: Kubernetes, api_server: Any
) -> None:
    def authority() -> str:
        out = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}"
        return kubernetes.kubectl("get", "validatingwebhookconfiguration", CONFIGURATION, out)

    before = authority()
    assert before
    command = [helm_program(), "upgrade", RELEASE, str(ROOT / "charts/octavo"), "--namespace=octavo-system"]
    environment = os.environ | {"KUBECONFIG": str(api_server.folder / "admin.kubeconfig")}
    policy = ["--reuse-values", "--set=webhook.failurePolicy=Ignore"]
    upgraded = subprocess.run([*command, *policy], env=environment, capture_output=True, text=True)
    assert upgraded.returncode == 0, upgraded.stderr
    assert authority() == before


def test_while_nobody_answers_what_leaves_the_spec_alone_passes(
    replicas: tuple[Operator, Operator], kubernetes: Kubernetes
) -> None:
    assert "created" in apply(kubernetes, "alone", SMALLEST)

    def ask(service: str, policy: str) -> None:
        places = {"clientConfig/service/name": service, "failurePolicy": policy}
        change = [{"op": "replace", "path": f"/webhooks/0/{place}", "value": each} for place, each in places.items()]
        words = ("validatingwebhookconfiguration", CONFIGURATION, "--type=json", "-p", json.dumps(change))
        kubernetes.kubectl("patch", *words)

    out = "--output=jsonpath={.webhooks[0].failurePolicy}"
    before = kubernetes.kubectl("get", "validatingwebhookconfiguration", CONFIGURATION, out)
    ask("nobody", "Fail")
    try:
        larger = SMALLEST | {"replicas": 2}
        eventually(lambda: "failed calling webhook" in apply(kubernetes, "alone", larger), what="nobody answers")
        place = f"--namespace={PLACE}"
        kubernetes.kubectl("label", "llmservice", "alone", "team=a", place)
        kubernetes.kubectl("delete", "llmservice", "alone", place, "--cascade=foreground", "--wait=false")
        eventually(
            lambda: "NotFound" in kubernetes.kubectl("get", "llmservice", "alone", place, check=False),
            what="the garbage collector takes its finalizer off",
        )
    finally:
        ask("guard-webhook", before)


def test_whichever_replica_is_left_answers(replicas: tuple[Operator, Operator], kubernetes: Kubernetes) -> None:
    """A request that meets the one that is gone passes (Ignore), so that the other is seen by a refusal."""
    one, two = replicas
    one.stop(signal.SIGKILL)
    kubernetes.kubectl("delete", "endpointslice", "guard-webhook-0", "--namespace=octavo-system")
    eventually(
        lambda: "denied the request" in apply(kubernetes, "later", ROOT_USER),
        what=lambda: f"the other answers: {two.log()[-2000:]}",
    )
