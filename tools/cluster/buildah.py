"""buildah, with storage of its own in the cache: image builds without a daemon, on a machine without Docker."""

import json
from collections.abc import Iterable
from pathlib import Path

from commands import run, succeeds
from paths import BUILDAH
from steps import StepFailed

TEMPORARY = BUILDAH / "tmp"
_ROOT, _RUN = BUILDAH / "root", BUILDAH / "run"
# A mount namespace of its own: what a build mounts goes with it, even when it is killed.
_APART = ("unshare", "--mount")
# buildah copies itself into a sealed memory file at each RUN; now and then the kernel still has it open, and the second
# attempt goes through.
_SEALING = "sealing memfd copy"
_BUILDAH = (*_APART, "buildah", "--root", str(_ROOT), "--runroot", str(_RUN), "--storage-driver", "overlay")


def buildah(*arguments: str | Path) -> str:
    """Run buildah and return what it printed."""
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    advice = "a download that failed: check the network and run it again; no space left: free 20 GB"
    try:
        return run([*_BUILDAH, *arguments], env={"TMPDIR": str(TEMPORARY)}, advice=advice)
    except StepFailed as failure:
        if _SEALING not in failure.reason:
            raise
        return run([*_BUILDAH, *arguments], env={"TMPDIR": str(TEMPORARY)}, advice=advice)


def has(image: str) -> bool:
    """Whether buildah's storage holds `image`."""
    return succeeds([*_BUILDAH, "inspect", "--type", "image", image])


def stored() -> list[str]:
    """Names of all images in buildah's storage."""
    return [name for image in json.loads(buildah("images", "--json")) for name in image.get("names") or ()]


def delete(names: Iterable[str]) -> None:
    """Delete images, the layers that no other image has, and those of builds that never came to an image's name."""
    if names := sorted(names):
        buildah("rmi", *names)
        buildah("rmi", "--prune")


def export(image: str, layout: Path, reference: str) -> None:
    """Write `image` as `reference` into the OCI layout folder `layout`, uncompressed.

    Layers that the folder has already are not written again (skopeo can do this, `buildah push` cannot).
    """
    layout.parent.mkdir(parents=True, exist_ok=True)
    run(
        [*_APART, "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers",
         f"containers-storage:[overlay@{_ROOT}+{_RUN}]{image}", f"oci:{layout}:{reference}"],
        env={"TMPDIR": str(TEMPORARY)},
        advice="no space left: free 20 GB",
    )  # fmt: skip
