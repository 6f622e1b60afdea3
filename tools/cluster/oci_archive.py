"""Image archives in the OCI layout (https://github.com/opencontainers/image-spec/blob/main/image-layout.md)."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import IO, Any

from golang import architecture

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
# containerd takes an imported image's name from this annotation.
NAME = "io.containerd.image.name"


def of_program(program: Path, name: str, archive: Path) -> None:
    """Write an image named `name` that holds one static program, its entry point."""
    layer = _layer(program)
    config = {
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    config_bytes = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config_bytes),
        "layers": [_descriptor(LAYER, layer)],
    }
    manifest_bytes = json.dumps(manifest).encode()
    with tarfile.open(archive, "w") as tar:
        _add_index(tar, {**_descriptor(MANIFEST, manifest_bytes), "annotations": {NAME: name}})
        for blob in (manifest_bytes, config_bytes, layer):
            _add(tar, _blob_path(_digest(blob)), blob)


def of_layout(layout: Path, manifest_digest: str, name: str, present: set[str], archive: IO[bytes]) -> None:
    """Write the image `manifest_digest` of the OCI layout folder `layout`, without the blobs that are `present`.

    Args:
        present: digests that the importing store already has: a changed source layer then travels alone.
        archive: may be a pipe.
    """
    manifest_bytes = blob(layout, manifest_digest).read_bytes()
    manifest = json.loads(manifest_bytes)
    with tarfile.open(fileobj=archive, mode="w|", bufsize=2**20) as tar:
        _add_index(tar, {**_descriptor(manifest["mediaType"], manifest_bytes), "annotations": {NAME: name}})
        _add(tar, _blob_path(manifest_digest), manifest_bytes)
        for digest in blobs(layout, manifest_digest):
            if digest not in present:
                tar.add(blob(layout, digest), _blob_path(digest))


def blobs(layout: Path, manifest_digest: str) -> list[str]:
    """Digests of the configuration and the layers of an image in an OCI layout folder."""
    manifest = json.loads(blob(layout, manifest_digest).read_bytes())
    return [manifest["config"]["digest"], *dict.fromkeys(layer["digest"] for layer in manifest["layers"])]


def prune(layout: Path) -> None:
    """Delete the blobs of an OCI layout folder that no image in its index needs."""
    manifests = [entry["digest"] for entry in json.loads((layout / "index.json").read_text())["manifests"]]
    needed = {blob(layout, digest) for manifest in manifests for digest in (manifest, *blobs(layout, manifest))}
    for path in set(layout.glob("blobs/*/*")) - needed:
        path.unlink()


def blob(layout: Path, digest: str) -> Path:
    """Where an OCI layout folder keeps a blob."""
    return layout / _blob_path(digest)


def manifest_digest(layout: Path, reference: str) -> str:
    """Digest of the manifest that an OCI layout folder holds under `reference`."""
    for descriptor in json.loads((layout / "index.json").read_text())["manifests"]:
        if descriptor.get("annotations", {}).get("org.opencontainers.image.ref.name") == reference:
            return str(descriptor["digest"])
    raise KeyError(f"{layout} holds no image {reference}")


def _layer(program: Path) -> bytes:
    """A layer of the program and an empty /tmp, the same for the same program."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size, entry.mode = program.stat().st_size, 0o755
        with program.open("rb") as file:
            tar.addfile(entry, file)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return content.getvalue()


def _add_index(tar: tarfile.TarFile, manifest: dict[str, Any]) -> None:
    _add(tar, "oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
    _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
