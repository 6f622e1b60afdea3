"""The cluster of the demo and the tests: KUBECONFIG's if set, else kind where Docker answers, else our own."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import binaries
import cluster
import images
import processes
from commands import run, succeeds
from paths import CACHE, KUBECONFIG, REPOSITORY
from steps import StepFailed, say, step

KIND_CLUSTER = "octavo"
KIND_KUBECONFIG = CACHE / "kind.kubeconfig"


@dataclass(frozen=True)
class Target:
    """A running cluster with Octavo's images in its reach.

    Attributes:
        name: for people: "own", "kind" or "KUBECONFIG".
        images: `operator` and `demo` -> image name.
        environment: what `kubectl` and `helm` need: KUBECONFIG and PATH.
    """

    name: str
    images: Mapping[str, str]
    environment: Mapping[str, str]


def choose() -> str:
    """Which of the three it is on this machine."""
    if os.environ.get("KUBECONFIG") not in (None, "", str(KUBECONFIG)):
        return "KUBECONFIG"
    if shutil.which("kind") and succeeds(["docker", "info"]):
        return "kind"
    return "own"


def exists() -> bool:
    """Whether the cluster is there already."""
    match choose():
        case "KUBECONFIG":
            return True
        case "kind":
            return KIND_CLUSTER in run(["kind", "get", "clusters"]).split()
        case _:
            return processes.running("containerd") is not None


def impossible() -> str | None:
    """Why this machine can have no cluster; None where it can."""
    if choose() == "own" and (sys.platform != "linux" or os.geteuid() != 0):
        return "no cluster: KUBECONFIG is not set, kind with Docker is not there, and our own needs Linux and root"
    return None


def prepare() -> int:
    """Builds what our own cluster will need, where that is the choice; for running beside other set-up."""
    try:
        if choose() == "own" and not impossible():
            cluster.build()
    except StepFailed as failure:
        say(f"FAILED: {failure.reason}\nWhat to do: {failure.advice}")
        return 1
    return 0


def ensure() -> Target:
    """Brings the cluster up and the images into it; safe to repeat."""
    match choose():
        case "KUBECONFIG":
            return _given()
        case "kind":
            return _kind()
        case _:
            return Target("own", cluster.up(with_images=True), _environment(KUBECONFIG, binaries.bin_dir()))


def remove() -> None:
    """Removes the cluster, unless it was there before us."""
    match choose():
        case "KUBECONFIG":
            return
        case "kind":
            with step(f"delete the kind cluster {KIND_CLUSTER}"):
                run(["kind", "delete", "cluster", "--name", KIND_CLUSTER])
        case _:
            cluster.down()


def _given() -> Target:
    named = {"operator": os.environ.get("OCTAVO_OPERATOR_IMAGE"), "demo": os.environ.get("OCTAVO_DEMO_IMAGE")}
    if not all(named.values()):
        raise StepFailed(
            "KUBECONFIG names a cluster, but not where it finds Octavo's images",
            "build the targets operator and demo of the Dockerfile, push them where the cluster can pull them, and "
            "name them in OCTAVO_OPERATOR_IMAGE and OCTAVO_DEMO_IMAGE; or unset KUBECONFIG",
        )
    _need("kubectl", "helm")
    given = Path(os.environ["KUBECONFIG"])
    return Target("KUBECONFIG", {key: str(name) for key, name in named.items()}, _environment(given))


def _kind() -> Target:
    _need("kubectl", "helm")
    tags = {
        target: f"octavo.local/{target}:{images.sources_key(REPOSITORY, 'docker')}" for target in ("operator", "demo")
    }
    if not exists():
        with step(f"create the kind cluster {KIND_CLUSTER}", expect="about a minute"):
            run(["kind", "create", "cluster", "--name", KIND_CLUSTER, "--kubeconfig", KIND_KUBECONFIG])
    node = f"{KIND_CLUSTER}-control-plane"
    loaded = run(["docker", "exec", node, "crictl", "images", "--output", "json"])
    present = {tag for image in json.loads(loaded)["images"] for tag in image["repoTags"]}
    for target, tag in tags.items():
        if tag not in present:
            with step(f"build and load image {target}", expect="minutes at first"):
                run(["docker", "build", "--target", target, "--tag", tag, REPOSITORY])
                run(["kind", "load", "docker-image", "--name", KIND_CLUSTER, tag])
    return Target("kind", tags, _environment(KIND_KUBECONFIG))


def _environment(kubeconfig: Path, programs: Path | None = None) -> dict[str, str]:
    path = os.environ.get("PATH", "")
    return {"KUBECONFIG": str(kubeconfig), "PATH": f"{programs}:{path}" if programs else path}


def _need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise StepFailed(f"{program} is not installed", f"install {program} and run this again")


if __name__ == "__main__":
    sys.exit(prepare())
