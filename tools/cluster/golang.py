"""The Go toolchain that builds the cluster's binaries."""

import functools
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from commands import run
from steps import StepFailed, step

MINIMUM = (1, 26, 4)
TOOLCHAIN = "golang.org/toolchain@v0.0.1-go1.26.4"
# Debian 12's Go cannot build Kubernetes, but it can fetch (and verify) a newer toolchain as a Go module.
DEBIAN_PACKAGE = "golang-1.19-go"
DEBIAN_GO = Path("/usr/lib/go-1.19/bin/go")


def architecture() -> str:
    """This machine's processor in Go's (and the image specification's) words."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def version(text: str) -> tuple[int, ...]:
    """`go version go1.26.4 linux/amd64` -> (1, 26, 4); () where no version is found."""
    found = re.search(r"\bgo(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


@functools.cache
def go() -> Path:
    """Path of a `go` command that is new enough: the one on PATH, else a toolchain fetched once."""
    on_path = shutil.which("go")
    if on_path and version(_output([on_path, "version"])) >= MINIMUM:
        return Path(on_path)
    return _fetched_toolchain()


def _fetched_toolchain() -> Path:
    if not DEBIAN_GO.exists():
        wanted = ".".join(map(str, MINIMUM))
        advice = f"install Go {wanted} or newer and put it on PATH"
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise StepFailed(f"no Go {wanted} or newer on PATH", advice)
        with step(f"apt-get install {DEBIAN_PACKAGE}", expect="once, to fetch a newer Go"):
            run(["apt-get", "install", "-q", "-y", "--no-install-recommends", DEBIAN_PACKAGE], advice=advice)
    module = f"{TOOLCHAIN}.linux-{architecture()}"
    with step(f"Go toolchain {module}"):
        answer = run([DEBIAN_GO, "mod", "download", "-json", module], advice="check the network, then run it again")
    root = Path(json.loads(answer)["Dir"])
    # Modules carry no executable bits.
    for program in [*root.glob("bin/*"), *root.glob("pkg/tool/*/*")]:
        program.chmod(0o755)
    return root / "bin" / "go"


def _output(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
