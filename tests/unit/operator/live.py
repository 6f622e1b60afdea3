"""A live operator and its API server, as tests use them."""

import ipaddress
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import nodeless
import psutil
import pytest
import yaml
from nodeless import ApiServer, free_port
from patience import PATIENCE, eventually

from octavo_operator import kinds

ROOT = Path(__file__).parents[3]
SMALLEST = {"model": {"uri": "builtin://smollm2"}}
CHILDREN = ("deployment", "service", "serviceaccount", "poddisruptionbudget", "configmap", "horizontalpodautoscaler")

# What objects of namespaces are called.
_KINDS = {word: kind.name for kind in kinds.KINDS for word in (kind.name.lower(), kind.plural)}
_REST = 5.0  # seconds without a write: what a write leads to comes sooner, also another look at what is on its way


def llmservice(name: str, spec: dict[str, Any]) -> str:
    metadata = {"name": name, "namespace": "default"}
    return json.dumps(
        {"apiVersion": "serving.octavo.dev/v1alpha1", "kind": "LLMService", "metadata": metadata, "spec": spec}
    )


@contextmanager
def an_api_server(folder: Path, *flags: str) -> Iterator[ApiServer]:
    """One of the test's own; skips where its programs are missing."""
    programs = os.environ.get("OCTAVO_BIN")
    if missing := [name for name in nodeless.PROGRAMS if nodeless.program(name, programs) is None]:
        pytest.skip(f"no {', '.join(missing)} (make cluster-up, or set OCTAVO_BIN to their folder)")
    with nodeless.running(folder, *flags, programs=programs) as server:
        yield server


def lead_here(kubernetes: "Kubernetes", service: str, *ports: int) -> None:
    """Leads a Service of octavo-system to ports of this process' machine, for the API server's own requests: by an
    address that is no loopback, which an EndpointSlice cannot hold. Skips where there is none."""
    addresses = [
        each.address
        for each in itertools.chain(*psutil.net_if_addrs().values())
        if each.family.name == "AF_INET" and not ipaddress.ip_address(each.address).is_loopback
    ]
    if not addresses:
        pytest.skip("this machine has no address but loopback, which an EndpointSlice cannot hold")
    for number, port in enumerate(ports):
        document = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{service}-{number}",
                "namespace": "octavo-system",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": addresses[:1], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }
        kubernetes.kubectl("apply", "-f", "-", document=json.dumps(document))


def client(server: ApiServer) -> httpx.Client:
    """Asks the API server as administrator, by connections that stay open."""
    bearer = {"Authorization": f"Bearer {server.token}"}
    return httpx.Client(base_url=server.url, headers=bearer, verify=False, timeout=PATIENCE)


class Kubernetes:
    """kubectl, and what tests look at again and again by a `client`: a kubectl each time keeps a processor busy for a
    sixth of a second."""

    def __init__(self, kubectl: Callable[..., str], api: httpx.Client) -> None:
        self.kubectl = kubectl
        self._api = api

    def apply(self, name: str, spec: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", document=llmservice(name, spec))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object; None if there is none, if the API server does not know its kind, and if it does not answer."""
        if kind not in _KINDS:
            out = self.kubectl("get", kind, name, "-o", "json", "--show-managed-fields", check=False)
            return json.loads(out) if out.startswith("{") else None
        try:
            answer = self._api.get(kinds.path(_KINDS[kind], "default", name))
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def labelled(self, kind: str, selector: str) -> list[dict[str, Any]]:
        answer = self._api.get(kinds.path(_KINDS[kind], "default"), params={"labelSelector": selector})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        return found

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        """A condition of a service; one that says nothing where there is none yet."""
        service = self.get("llmservice", name) or {}
        found = [item for item in service.get("status", {}).get("conditions", []) if item["type"] == type_]
        return found[0] if found else {"status": "", "reason": "", "message": ""}

    def reason(self, name: str) -> str:
        return str(self.condition(name, "Ready")["reason"])

    def events(self, name: str) -> list[dict[str, Any]]:
        out = self.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "json")
        return [item for item in json.loads(out)["items"] if item["involvedObject"]["kind"] == "LLMService"]

    def writes(self) -> int:
        """Applies of the operator so far, from the API server's own count. Deletions are not counted: the garbage
        collector deletes what former tests left behind whenever it comes to it."""
        text = self._api.get("/metrics").raise_for_status().text
        counted = r'apiserver_request_total\{[^}]*code="20.",[^}]*resource="(\w+)"[^}]*verb="APPLY"'
        pattern = counted + r"[^}]*\} (\d+)"
        kinds = ("llmservices", "deployments", "services", "serviceaccounts", "configmaps", "poddisruptionbudgets")
        return sum(int(count) for kind, count in re.findall(pattern, text) if kind in kinds)

    def writes_at_rest(self) -> int:
        """The writes so far, once there were none for some seconds: they count those for other tests' services too."""
        count, since = self.writes(), time.monotonic()

        def rests() -> bool:
            nonlocal count, since
            time.sleep(0.5)
            if (now := self.writes()) != count:
                count, since = now, time.monotonic()
            return time.monotonic() - since > _REST

        eventually(rests, what="nothing is written")
        return count


class Operator:
    """The operator as a process of its own."""

    def __init__(self, kubeconfig: Path, log: Path, **environment: str) -> None:
        self._environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "OCTAVO_RUNTIME_IMAGE": "octavo.local/demo:1",
            "OCTAVO_HEALTH_PORT": str(free_port()),
            "OCTAVO_METRICS_PORT": str(free_port()),
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

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(PATIENCE)

    def run(self, module: str, *arguments: str) -> str:
        """Run another module as the operator's account; returns what it said."""
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(
            command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
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
    own = {"OCTAVO_NAMESPACES": served}
    return Operator(api_server.kubeconfig(release, token), api_server.folder / f"{release}.log", **(own | environment))
