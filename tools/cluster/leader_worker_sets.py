"""The controller of LeaderWorkerSets, from its Go module: its program, and the chart that installs it."""

import json
import shutil
import tempfile
from pathlib import Path

import binaries
import containerd
import golang
import oci_archive
from commands import run

MODULE = "sigs.k8s.io/lws"


def chart() -> Path:
    """The folder of the chart."""
    command: list[str | Path] = [golang.go(), "mod", "download", "-json", MODULE]
    answer = run(command, cwd=binaries.LWS.folder, advice="check the network, then run it again")
    return Path(json.loads(answer)["Dir"]) / "charts" / "lws"


def image() -> tuple[str, str]:
    """Repository and tag of the controller's image, which is made and loaded into the cluster unless it is there."""
    folder = binaries.built(binaries.LWS)
    repository, tag = f"{containerd.REGISTRY}/lws", folder.name
    name = f"{repository}:{tag}"
    if name not in containerd.images():
        (program,) = folder.iterdir()
        with tempfile.TemporaryDirectory() as made:
            manager = Path(made) / "manager"  # as the chart calls it
            shutil.copy(program, manager)
            archive = Path(made) / "image.tar"
            oci_archive.of_program(manager, name, archive)
            containerd.import_archive(archive)
    return repository, tag
