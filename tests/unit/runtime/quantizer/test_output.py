"""The folder of a quantisation that is killed, at its very end too."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from octavo_runtime.quantizer.output import OutputFolder
from octavo_runtime.quantizer.recipe import CannotQuantize

IDENTITY = {"model": "a"}


def test_work_that_can_be_resumed_has_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        raise KeyboardInterrupt

    with OutputFolder(tmp_path, IDENTITY, 1) as folder:
        folder.count(0, 7)
        folder.write(0, {"a": torch.zeros(1)})
    with OutputFolder(tmp_path, IDENTITY, 1) as folder, monkeypatch.context() as patch:
        assert folder.counts == {"0": 7}
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.close_work()
    with pytest.raises(CannotQuantize, match="must be a new or an empty folder"):
        OutputFolder(tmp_path, IDENTITY, 1)


def test_counts_of_other_work_are_dropped(tmp_path: Path) -> None:
    (tmp_path / ".octavo-quantize-counts.json").write_text(json.dumps({"0": 7}))
    with OutputFolder(tmp_path, IDENTITY, 1) as folder:
        assert folder.counts == {}


def test_a_disk_that_is_full_when_a_number_is_kept_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *content: str, **settings: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with OutputFolder(tmp_path, IDENTITY, 1) as folder, monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(CannotQuantize, match=f"^out: {tmp_path} cannot be written: No space left on device$"):
            folder.count(0, 7)


def test_a_file_system_that_refuses_permissions_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    with OutputFolder(tmp_path, IDENTITY, 1) as folder:
        folder.write(0, {"a": torch.ones(1)})
        assert torch.equal(folder.read(0)["a"], torch.ones(1))


def test_all_files_are_for_the_same_readers(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", IDENTITY, 1) as folder:
        folder.write(0, {"a": torch.zeros(1)})
        folder.finish(tmp_path, {})
    assert len({path.stat().st_mode for path in folder.folder.iterdir()}) == 1
