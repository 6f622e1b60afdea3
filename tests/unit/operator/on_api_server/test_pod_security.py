"""What spec.podTemplate may do, held to the API server's own Pod Security admission."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from built import pod
from live import SMALLEST, Kubernetes, Operator
from patience import eventually

from octavo_operator.resources.pod_security import first_breach, hardened
from octavo_operator.settings import Settings

pytestmark = pytest.mark.cluster

ALL = Settings(runtime_image="octavo/runtime:1", pod_template="all")


def engine(**container: Any) -> dict[str, Any]:
    return {"containers": [{"name": "engine"} | container]}


def secured(**context: Any) -> dict[str, Any]:
    return engine(securityContext=context)


def sidecar(**container: Any) -> dict[str, Any]:
    return {"containers": [{"name": "sidecar", "image": "x:1"} | container]}


ALLOWED: list[dict[str, Any]] = [
    {},
    sidecar(),
    sidecar(securityContext={"runAsUser": 1000}),
    {"initContainers": [{"name": "first", "image": "x:1"}]},
    {"volumes": [{"name": "v", "secret": {"secretName": "s"}}, {"name": "w", "image": {"reference": "x:1"}}]},
    {
        "volumes": [
            {"name": "v", "projected": {"sources": []}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "c"}},
        ]
    },
    {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}},
    {"securityContext": {"seLinuxOptions": {"type": "container_t"}}},
    secured(capabilities={"add": ["NET_BIND_SERVICE"]}),
    engine(ports=[{"containerPort": 9000}]),
]
FORBIDDEN: list[dict[str, Any]] = [
    {"hostNetwork": True},
    {"hostPID": True},
    {"hostIPC": True},
    {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    {"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}]},
    {"securityContext": {"runAsUser": 0}},
    {"securityContext": {"runAsNonRoot": False}},
    {"securityContext": {"runAsNonRoot": None}},
    {"securityContext": {"seccompProfile": None}},
    {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
    {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
    {"securityContext": {"seLinuxOptions": {"user": "root"}}},
    secured(privileged=True),
    secured(allowPrivilegeEscalation=True),
    secured(allowPrivilegeEscalation=None),
    secured(runAsUser=0),
    secured(runAsNonRoot=False),
    secured(procMount="Unmasked"),
    secured(capabilities={"add": ["NET_RAW"]}),
    secured(capabilities={"drop": ["NET_RAW"]}),
    secured(seccompProfile={"type": "Unconfined"}),
    secured(windowsOptions={"hostProcess": True}),
    sidecar(securityContext={"runAsUser": 0}),
    sidecar(securityContext={"privileged": True, "allowPrivilegeEscalation": True}),
    {"initContainers": [{"name": "first", "image": "x:1", "securityContext": {"runAsUser": 0}}]},
    engine(ports=[{"containerPort": 8000, "hostPort": 8000}]),
    engine(livenessProbe={"httpGet": {"host": "169.254.169.254"}}),
    engine(lifecycle={"postStart": {"httpGet": {"host": "169.254.169.254", "port": 80}}}),
]


@pytest.fixture(scope="module")
def refusal(kubernetes: Kubernetes) -> Callable[[dict[str, Any]], str]:
    """What a namespace that enforces the standard says of a pod."""
    kubernetes.kubectl("create", "namespace", "enforced")
    kubernetes.kubectl("label", "namespace", "enforced", "pod-security.kubernetes.io/enforce=restricted")

    def said(spec: dict[str, Any]) -> str:
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "engine"}, "spec": spec}
        command = ["create", "--dry-run=server", "--namespace=enforced", "-f", "-"]
        answer = kubernetes.kubectl(*command, document=json.dumps(manifest), check=False)
        return "" if "created" in answer else answer

    return said


@pytest.mark.parametrize("template", ALLOWED, ids=json.dumps)
def test_what_the_standard_allows_is_let_through(
    refusal: Callable[[dict[str, Any]], str], template: dict[str, Any]
) -> None:
    spec = hardened(pod(settings=ALL, podTemplate={"spec": template}))
    assert first_breach(spec) is None
    assert refusal(spec) == ""


@pytest.mark.parametrize("template", FORBIDDEN, ids=json.dumps)
def test_what_the_standard_forbids_is_refused(
    refusal: Callable[[dict[str, Any]], str], template: dict[str, Any]
) -> None:
    spec = pod(settings=ALL, podTemplate={"spec": template})
    said = refusal(spec)
    refusals = ("violates PodSecurity", "Invalid value", "disallowed by cluster policy")
    assert any(words in said for words in refusals), said
    assert first_breach(spec) is not None


def test_a_tenant_is_told_what_the_installation_does_not_allow(
    operator: Operator, kubernetes: Kubernetes, name: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    before = eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    node = {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": node}})
    eventually(lambda: kubernetes.reason(name) == "InvalidSpec", what="InvalidSpec")
    said = kubernetes.condition(name, "Valid")["message"]
    assert said.startswith("spec.podTemplate.spec.volumes[node]: must be one of configMap, ")
    assert said.endswith(
        'got "hostPath", by the Restricted Pod Security Standard; the operator\'s chart allows it by '
        "podTemplate.allow: all"
    )
    after = kubernetes.get("deployment", name)
    assert after is not None
    assert after["spec"] == before["spec"]
