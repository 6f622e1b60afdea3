"""The hash in an image's tag, and the archives that carry images into the cluster."""

import json
import tarfile
from pathlib import Path
from typing import Any

import images
import oci_archive
import pytest
from paths import REPOSITORY


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in images.INPUTS:
        if name in ("operator", "runtime", "kernels"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "source.py").write_text("1")
        else:
            (tmp_path / name).write_text("1")
    return tmp_path


def key(repository: Path) -> str:
    return images.sources_key(repository, "debian:1")


@pytest.mark.parametrize("changed", ["Dockerfile", "constraints.txt", "runtime/source.py", "kernels/new.py"])
def test_a_change_of_any_input_changes_the_tag(repository: Path, changed: str) -> None:
    before = key(repository)
    (repository / changed).write_text("2")
    assert key(repository) != before


def test_a_renamed_file_changes_the_tag(repository: Path) -> None:
    before = key(repository)
    (repository / "operator" / "source.py").rename(repository / "operator" / "other.py")
    assert key(repository) != before


def test_what_is_no_input_leaves_the_tag(repository: Path) -> None:
    before = key(repository)
    (repository / "tests").mkdir()
    (repository / "tests" / "test_a.py").write_text("2")
    (repository / "runtime" / "source.pyc").write_text("compiled")
    assert key(repository) == before


def test_the_base_image_is_part_of_the_tag(repository: Path) -> None:
    assert images.sources_key(repository, "debian:2") != key(repository)


def test_the_dockerfile_copies_inputs_only() -> None:
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    copied = {
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    }
    assert copied <= set(images.INPUTS)


def test_what_other_sources_made_is_replaced_and_nothing_else() -> None:
    wanted = {"operator": "octavo.local/operator:2", "runtime": "octavo.local/runtime:2"}
    older = {"octavo.local/operator:1", "octavo.local/runtime:0", "octavo.local/runtime:1"}
    others = {"octavo.local/debian:bookworm-1", "octavo.local/pause:1", "example.com/model:1"}
    assert images.replaced(wanted, {*wanted.values(), *older, *others}) == older


def test_an_archive_of_a_program_holds_one_layer_and_its_name(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    oci_archive.of_program(program, "example.com/pause:1", tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        index = _json(tar, "index.json")
        manifest = _json(tar, _blob(index["manifests"][0]["digest"]))
        config = _json(tar, _blob(manifest["config"]["digest"]))
        [layer] = manifest["layers"]
        assert tar.getmember(_blob(layer["digest"])).size == layer["size"]
    assert index["manifests"][0]["annotations"] == {oci_archive.NAME: "example.com/pause:1"}
    assert config["config"]["Entrypoint"] == ["/pause"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]


def test_layers_that_are_present_are_not_sent_again(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    (layout / "blobs" / "sha256").mkdir(parents=True)
    manifest = {"mediaType": oci_archive.MANIFEST, "config": {"digest": "sha256:c"},
                "layers": [{"digest": "sha256:old"}, {"digest": "sha256:new"}]}  # fmt: skip
    for name, content in {"m": json.dumps(manifest), "c": "{}", "old": "large", "new": "small"}.items():
        (layout / "blobs" / "sha256" / name).write_text(content)
    with (tmp_path / "image.tar").open("wb") as archive:
        oci_archive.of_layout(layout, "sha256:m", "example.com/demo:1", {"sha256:old"}, archive)
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert {name for name in tar.getnames() if name.startswith("blobs/")} == {
            _blob(f"sha256:{x}") for x in ("m", "c", "new")
        }


def test_blobs_that_no_image_needs_are_pruned(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifest = {"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:l"}]}
    for name, content in {"m": json.dumps(manifest), "c": "{}", "l": "layer", "old": "layer"}.items():
        (blobs / name).write_text(content)
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:m"}]}))
    oci_archive.prune(tmp_path)
    assert {path.name for path in blobs.iterdir()} == {"m", "c", "l"}


def _json(tar: tarfile.TarFile, path: str) -> Any:
    file = tar.extractfile(path)
    assert file is not None
    return json.load(file)


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
