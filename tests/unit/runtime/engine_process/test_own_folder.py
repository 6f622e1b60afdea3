"""Folders that go with the processes that made them, or with the next one."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octavo_runtime.engine_process.own_folder import own_folder

HOLD = """
import sys
from octavo_runtime.engine_process.own_folder import own_folder
with own_folder() as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def holder() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process, and the folder that it has."""
    words, pipe = [sys.executable, "-c", HOLD], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())


def test_a_folder_goes_with_who_made_it(everywhere: Path) -> None:
    with own_folder() as folder:
        (folder / "file").touch()
        assert folder.parent == everywhere
    assert not [*everywhere.iterdir()]


def test_what_a_killed_process_left_goes_with_the_next_one_and_nobody_elses_does(everywhere: Path) -> None:
    names = "octavo-own-file", "octavo-j58mbk00/engine", "octavo-own-notes/file"
    others = [everywhere / name for name in names]
    for each in others:
        each.parent.mkdir(exist_ok=True)
        each.touch()
    elsewhere = everywhere / "elsewhere"
    elsewhere.mkdir()
    link = everywhere / "octavo-own-link"
    link.symlink_to(elsewhere)
    with holder() as (_, held), own_folder() as mine:
        with holder() as (killed, left):
            killed.kill()
            killed.wait()
            assert left.is_dir()
            with own_folder():
                assert not left.exists()
        assert (held / "file").exists()
        assert mine.is_dir()
        assert all(each.exists() for each in (*others, elsewhere, link))


def test_the_next_one_begins_beside_many(everywhere: Path) -> None:
    """Who begins at the same time takes no folder of another for left."""
    words, pipe = [sys.executable, "-c", HOLD], subprocess.PIPE
    processes = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in range(8)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert (Path(process.stdout.readline().strip()) / "file").exists()
        assert len([*everywhere.iterdir()]) == len(processes)
    finally:
        for process in processes:
            process.communicate()
    assert not [*everywhere.iterdir()]
