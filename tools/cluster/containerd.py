"""containerd, which runs the pods' containers, and its images."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import binaries
import network
import oci_archive
import processes
from commands import last_lines, run, succeeds
from firewall import POD_NETWORK
from paths import CONFIG, CONTAINERD_ROOT, CONTAINERD_RUN, CONTAINERD_SOCKET, POD_ADDRESSES
from steps import StepFailed, wait_until

NAMESPACE = "k8s.io"
REGISTRY = "octavo.local"
CONTENT_STORE = CONTAINERD_ROOT / "io.containerd.content.v1.content" / "blobs"
# Fixed in containerd's shim and in the CNI library.
SHIM_SOCKETS = Path("/run/containerd/s")
CNI_RESULTS = Path("/var/lib/cni/results")


def ensure(mounts: processes.Identity) -> None:
    """Start containerd in the mount namespace of `mounts`, wait until it answers, and give it the pause image."""
    config = CONFIG / "containerd.toml"
    files = {config: _config(), CONFIG / "cni" / "10-octavo.conflist": _pod_network()}
    processes.ensure("containerd", ["containerd", "--config", config], files=files, mounts_of=mounts)
    wait_until(_answers, 30, lambda: processes.ended("containerd"))
    import_program("pause")


def program_image(name: str) -> str:
    """Name of the image that holds the cluster's program `name` alone."""
    return f"{REGISTRY}/{name}:{(binaries.bin_dir() / name).resolve().parent.name}"


def import_program(name: str) -> str:
    """Make and import the image of the program `name`, unless it is there; return its name."""
    image = program_image(name)
    if image not in images():
        with tempfile.TemporaryDirectory(dir=CONTAINERD_RUN) as folder:
            archive = Path(folder) / "image.tar"
            oci_archive.of_program((binaries.bin_dir() / name).resolve(), image, archive)
            import_archive(archive)
    return image


def import_archive(archive: Path) -> None:
    """Import an OCI or Docker image archive and unpack it."""
    ctr("images", "import", archive)


def import_layout(layout: Path, manifest: str, name: str) -> None:
    """Import the image with the digest `manifest` from the OCI layout folder `layout`, as `name`, and unpack it.

    Its blobs are linked into containerd's store beforehand: containerd then adopts them instead of writing them
    again. Where links are not possible it just writes them.
    """
    present = blobs()
    for digest in oci_archive.blobs(layout, manifest):
        if digest not in present:
            with suppress(OSError):
                (CONTENT_STORE / digest.replace(":", "/")).hardlink_to(oci_archive.blob(layout, digest))
    with subprocess.Popen(
        [str(word) for word in (*_CTR, "images", "import", "-")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as importing:
        assert importing.stdin
        assert importing.stderr
        with suppress(BrokenPipeError), importing.stdin:  # its own message says why it stopped reading
            oci_archive.of_layout(layout, manifest, name, present, importing.stdin)
        message = importing.stderr.read().decode(errors="replace")
    if importing.returncode:
        raise StepFailed(
            f"containerd refused image {name}:\n{last_lines(message)}", f"read {processes.log('containerd')}"
        )


def images() -> list[str]:
    """Names of all images."""
    return ctr("images", "list", "--quiet").split()


def blobs() -> set[str]:
    """Digests of all stored blobs."""
    return set(ctr("content", "list", "--quiet").split())


def delete_images(names: Iterable[str]) -> None:
    """Delete those of the images that no container uses, and the layers that were theirs alone."""
    used = {line.split()[1] for line in ctr("containers", "list").splitlines()[1:]}
    if unused := set(names) - used:
        ctr("images", "delete", "--sync", *sorted(unused))  # with their layers, at once


def delete_containers() -> None:
    """Kill and delete every container, without grace."""
    if not _answers():
        return
    if tasks := ctr("tasks", "list", "--quiet").split():
        succeeds([*_CTR, "tasks", "delete", "--force", *tasks])
    if containers := ctr("containers", "list", "--quiet").split():
        succeeds([*_CTR, "containers", "delete", *containers])


def forget_running() -> None:
    """After its processes have gone: drop what containerd and its plugins knew of them, also outside the state folder.

    A restart of the machine does the same.
    """
    for address in CONTAINERD_RUN.glob("io.containerd.runtime.v2.task/*/*/address"):
        Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)
    for attachment in CNI_RESULTS.glob("*"):
        if str(CONTAINERD_RUN) in attachment.read_text(errors="replace"):
            attachment.unlink()
    for folder in (SHIM_SOCKETS, SHIM_SOCKETS.parent, CNI_RESULTS, CNI_RESULTS.parent):
        with suppress(OSError):  # missing, or in use by others
            folder.rmdir()
    shutil.rmtree(CONTAINERD_RUN, ignore_errors=True)
    shutil.rmtree(POD_ADDRESSES, ignore_errors=True)


def ctr(*arguments: str | Path) -> str:
    """Run containerd's own client."""
    return run([*_CTR, *arguments], advice=f"read {processes.log('containerd')}")


_CTR: tuple[str | Path, ...] = ("ctr", "--address", CONTAINERD_SOCKET, "--namespace", NAMESPACE)


def _answers() -> bool:
    return CONTAINERD_SOCKET.exists() and succeeds([*_CTR, "version"])


def _config() -> str:
    # restrict_oom_score_adj: the machine may not let root lower a score (no CAP_SYS_RESOURCE).
    # netns_mounts_under_state_dir: /run/netns stays as it was.
    return f"""version = 2
root = "{CONTAINERD_ROOT}"
state = "{CONTAINERD_RUN}"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{program_image("pause")}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{CONFIG / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{CONTAINERD_RUN / "runc"}"
"""


def _pod_network() -> str:
    return f"""{{
  "cniVersion": "0.4.0",
  "name": "{POD_NETWORK}",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "{network.POD_LINK}",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {{
        "type": "host-local",
        "dataDir": "{POD_ADDRESSES}",
        "ranges": [[{{"subnet": "{network.NODE_POD_RANGE}"}}]],
        "routes": [{{"dst": "0.0.0.0/0"}}]
      }}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
"""
