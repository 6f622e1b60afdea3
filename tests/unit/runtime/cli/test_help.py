"""The help of every command, as a terminal shows it."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
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


def test_brackets_of_a_models_name_are_shown() -> None:
    words = CliRunner().invoke(app, ["download", "--help"]).stdout.split()
    assert "hf://OWNER/NAME[/FILE.gguf][@REVISION]," in words
