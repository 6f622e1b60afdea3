"""The help of every command, as a terminal shows it."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from patience import PATIENCE
from typer.testing import CliRunner

from octavo_runtime.cli.app import app


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_help_is_printed_as_it_is_written(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"])
    assert done.exit_code == 0, done.exception
    assert done.stdout.lstrip().startswith("Usage: ")


@pytest.mark.parametrize("words", [(), ("bench",), ("debug",)], ids=" ".join)
def test_a_command_that_needs_another_shows_its_help(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "octavo_runtime", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0].startswith("Usage: ")
    assert len(done.stderr.splitlines()) > 5


def test_brackets_of_a_models_name_are_shown() -> None:
    words = CliRunner().invoke(app, ["download", "--help"]).stdout.split()
    assert "hf://OWNER/NAME[/FILE.gguf][@REVISION]," in words
