"""Octavo's own images: built by buildah from the repository's Dockerfile, and loaded into the cluster's containerd.

An image's tag is a hash of all that it is made of, so that nothing is built twice and a Deployment that names a new
image rolls by itself.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import base_image
import containerd
import oci_archive
from buildah import buildah, delete, export, has, stored
from paths import CACHE, IMAGE_LAYOUT, REPOSITORY
from steps import step

TARGETS = ("operator", "runtime", "demo")
# What the Dockerfile copies, and what decides how.
INPUTS = ("Dockerfile", ".dockerignore", "pyproject.toml", "hatch_build.py", "constraints.txt", "README.md", "LICENSE",
          "operator", "runtime", "kernels")  # fmt: skip
PIP_FOLDER = "/etc/xdg/pip"


def names() -> dict[str, str]:
    """Target -> the name of its image as of the present sources."""
    key = sources_key(REPOSITORY, base_image.name())
    return {target: f"{containerd.REGISTRY}/{target}:{key}" for target in TARGETS}


def ensure() -> dict[str, str]:
    """Build and load what the cluster lacks; return target -> image name."""
    wanted = names()
    if not set(wanted.values()) <= set(containerd.images()):
        build(wanted)
        load(wanted)
    return wanted


def build(wanted: Mapping[str, str]) -> None:
    """Build the images (target -> name) that are missing in buildah's storage, and drop what they replace there.

    Needs no cluster.
    """
    with _alone():
        for target, name in wanted.items():
            if not has(name):
                base = base_image.ensure()
                with step(f"build image {target}", expect="minutes at first, then seconds"):
                    _build(target, name, base)
            with step(f"export image {target}"):
                export(name, IMAGE_LAYOUT, target)
        delete(replaced(wanted, stored()))


def load(wanted: Mapping[str, str]) -> None:
    """Load built images (target -> name) into containerd, and drop what they replace."""
    with _alone():
        present = set(containerd.images())
        for target, name in wanted.items():
            if name not in present:
                with step(f"load image {target} into containerd", expect="a minute or two at first, then seconds"):
                    manifest = oci_archive.manifest_digest(IMAGE_LAYOUT, target)
                    containerd.import_layout(IMAGE_LAYOUT, manifest, name)
        containerd.delete_images(replaced(wanted, present))
        oci_archive.prune(IMAGE_LAYOUT)


def sources_key(repository: Path, base: str) -> str:
    """Short hash of the files below `repository` that the images are made of, and of the base image's name."""
    digest = hashlib.sha256(base.encode())
    for name in INPUTS:
        path = repository / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"{file.relative_to(repository)}\0{file.stat().st_mode & 0o111}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _build(target: str, name: str, base: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _pip_settings(Path(folder))
        buildah(
            # chroot isolation needs neither a daemon nor cgroups of its own, so it works where containers do not.
            "bud", "--isolation", "chroot", "--network", "host", "--pull-never", "--layers", "--force-rm",
            "--volume", f"{folder}:{PIP_FOLDER}:ro",
            "--build-arg", f"BASE_IMAGE={base}", "--target", target, "--tag", name, REPOSITORY,
        )  # fmt: skip


def _pip_settings(folder: Path) -> None:
    """This machine's package index and certificate authority, for pip inside the build alone."""
    lines = ["[global]"]
    for option in ("index-url", "extra-index-url", "trusted-host", "timeout"):
        value = os.environ.get(f"PIP_{option.upper().replace('-', '_')}")
        if value:
            lines.append(f"{option} = {value}")
    authority = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    if authority:
        shutil.copy(authority, folder / "ca.crt")
        lines.append(f"cert = {PIP_FOLDER}/ca.crt")
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")


def replaced(wanted: Mapping[str, str], present: Iterable[str]) -> set[str]:
    """Those of the images that are `present` which an image of `wanted` (target -> name) takes the place of."""
    return {name for name in present if _target(name) in wanted} - set(wanted.values())


def _target(name: str) -> str:
    """`octavo.local/runtime:123` -> `runtime`."""
    return name.rpartition("/")[2].partition(":")[0]


@contextmanager
def _alone() -> Iterator[None]:
    """One build or load at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "images.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
