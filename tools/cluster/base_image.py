"""The Debian image that the project's images are built on where no registry can be asked: made by debootstrap."""

import hashlib
import inspect
import shutil
import sys
from pathlib import Path

from buildah import TEMPORARY, buildah, has
from commands import run
from containerd import REGISTRY
from steps import step

SUITE = "bookworm"
# Not needed to run anything: half of the image.
LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/info", "usr/share/locale",
            "usr/share/man")  # fmt: skip


def name() -> str:
    """The image's name, with a hash of the recipe."""
    recipe = hashlib.sha256(inspect.getsource(sys.modules[__name__]).encode()).hexdigest()[:12]
    return f"{REGISTRY}/debian:{SUITE}-{recipe}"


def ensure() -> str:
    """Make the image unless it is there; return its name."""
    image = name()
    if not has(image):
        with step("Debian base image by debootstrap", expect="about 40 s, once"):
            _make(image)
    return image


def _make(image: str) -> None:
    tree, archive = TEMPORARY / "debian", TEMPORARY / "debian.tar"
    shutil.rmtree(tree, ignore_errors=True)
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    # Its own mount namespace: whatever debootstrap mounts goes with it, even when it is killed.
    run(["unshare", "--mount", "debootstrap", "--variant=minbase", SUITE, tree],
        advice="the Debian mirror must be reachable; see debootstrap's last lines above")  # fmt: skip
    for folder in LEFT_OUT:
        _empty(tree / folder)
    run(["tar", "--create", "--file", archive, "--directory", tree, "."])
    container = buildah("from", "scratch").strip()
    buildah("add", "--quiet", container, archive, "/")
    buildah("config", "--cmd", "bash", container)
    buildah("commit", "--quiet", "--rm", container, image)
    shutil.rmtree(tree)
    archive.unlink()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
