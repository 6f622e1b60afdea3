"""The cluster's add-ons: CoreDNS (names of Services) and metrics-server (CPU and memory for autoscaling)."""

import hashlib
from pathlib import Path
from string import Template

import api
import containerd
import pki
from binaries import bin_dir
from commands import run
from paths import HERE
from steps import StepFailed, wait_until

# The program is also the name of the Deployment and of the manifest.
ADDONS = ("coredns", "metrics-server")
REVISION = "octavo.dev/revision"
SECONDS = 90


def ensure() -> None:
    """Apply the add-ons that are missing or old, and wait until they are available."""
    for name in ADDONS:
        if not _current(name):
            containerd.import_program(name)
            kubectl: list[str | Path] = [bin_dir() / "kubectl", "--kubeconfig", pki.kubeconfig("admin")]
            run([*kubectl, "apply", "-f", "-"], stdin=_manifest(name))
    wait_until(lambda: all(available(name) for name in ADDONS), SECONDS, _unavailable)


def healthy() -> bool:
    """Whether all add-ons are as they should be."""
    return all(_current(name) and available(name) for name in ADDONS)


def available(name: str) -> bool:
    """Whether the add-on answers (metrics-server: also through the API server)."""
    if name == "metrics-server" and api.get("/apis/metrics.k8s.io/v1beta1") is None:
        return False
    deployment = api.get(_path(name))
    if deployment is None:
        return False
    status = deployment["status"]
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return bool(seen and status.get("updatedReplicas") and not status.get("unavailableReplicas"))


def _current(name: str) -> bool:
    deployment = api.get(_path(name))
    return bool(deployment and deployment["metadata"].get("annotations", {}).get(REVISION) == _revision(name))


def _manifest(name: str) -> str:
    return _template(name).substitute(image=containerd.program_image(name), revision=_revision(name))


def _revision(name: str) -> str:
    return hashlib.sha256((_template(name).template + containerd.program_image(name)).encode()).hexdigest()[:12]


def _template(name: str) -> Template:
    return Template((HERE / "addons" / f"{name}.yaml").read_text())


def _path(name: str) -> str:
    return f"/apis/apps/v1/namespaces/kube-system/deployments/{name}"


def _unavailable() -> StepFailed:
    late = next((name for name in ADDONS if not available(name)), "an add-on")
    return StepFailed(
        f"{late} did not become available in {SECONDS} s",
        f"kubectl --kubeconfig {pki.kubeconfig('admin')} -n kube-system describe pods -l k8s-app={late}",
    )
