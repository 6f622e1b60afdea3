"""The cluster's programs, compiled from Go modules and kept by what they were made of."""

import hashlib
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import golang
from commands import run
from paths import BIN, GO_BUILDS, HERE
from steps import step


@dataclass(frozen=True)
class Module:
    """A folder with a go.mod.

    Attributes:
        packages: what `go build` builds; `tool` stands for the tools that go.mod names.
        source: the dependency whose version the programs report, and the variables that carry it.
        expect: what to tell the user before the first build.
    """

    name: str
    packages: str = "tool"
    source: str = ""
    version_variables: tuple[str, ...] = ()
    expect: str = ""

    @property
    def folder(self) -> Path:
        return HERE / self.name


MODULES = (
    Module(
        "kubernetes",
        source="k8s.io/kubernetes",
        version_variables=("k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"),
        expect="about 6 minutes on 2 cores, once",
    ),
    Module("addons", expect="about 3 minutes on 2 cores, once"),
    Module(
        "helm",
        source="helm.sh/helm/v4",
        version_variables=("helm.sh/helm/v4/internal/version.version",),
        expect="about a minute, once",
    ),
    Module("pause", packages="."),
)
# Stands in for nodes that run nothing: what starts many pods asks for it.
KWOK = Module("kwok", expect="about 2 minutes on 2 cores, once")
# The controller of LeaderWorkerSets, which a service of several nodes needs: no part of the cluster, but of its tests.
LWS = Module("lws", expect="about 3 minutes on 2 cores, once")
# An S3 server and a registry: no part of the cluster, but what models are downloaded from in tests.
STORAGE = Module("storage", expect="about half a minute on 2 cores, once")


def key(module: Module) -> str:
    """Short hash of all that decides the result: sources, pins, flags and platform."""
    digest = hashlib.sha256(repr((module, platform.machine())).encode())
    for path in sorted(module.folder.glob("*")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def linker_flags(module: Module) -> str:
    """Strip the programs, and give them the version that go.mod pins."""
    flags = ["-s", "-w"]
    if module.version_variables:
        pinned = re.search(rf"^\s*{re.escape(module.source)} (v\S+)", (module.folder / "go.mod").read_text(), re.M)
        assert pinned, f"{module.folder}/go.mod requires no {module.source}"
        flags += [f"-X={variable}={pinned[1]}" for variable in module.version_variables]
    return " ".join(flags)


def ensure(modules: Sequence[Module] = MODULES) -> None:
    """Build what is missing and link every program into one folder."""
    for module in modules:
        for program in built(module).iterdir():
            _link(BIN / program.name, program)


def built(module: Module) -> Path:
    """The folder of a module's programs; builds them if they are not there."""
    folder = GO_BUILDS / f"{module.name}-{key(module)}"
    if not folder.exists():
        _build(module, folder)
    return folder


def bin_dir() -> Path:
    """The folder that holds kube-apiserver, kubelet, kubectl, helm, ...; made by `ensure`."""
    return BIN


def _build(module: Module, target: Path) -> None:
    go = golang.go()
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with step(f"Go build of {module.name}", expect=module.expect):
        run(
            [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", linker_flags(module), "-o", f"{unfinished}/",
             module.packages],
            cwd=module.folder,
            env={"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
            advice="a download that failed: check the network and run it again; no space left: free 5 GB",
        )  # fmt: skip
    unfinished.rename(target)


def _link(link: Path, program: Path) -> None:
    if link.is_symlink() and link.readlink() == program:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(program)
