"""What a comparison hands to its reader: a finding, a table, a picture, and the same figures as JSON."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from octavo_runtime.config.options import BadOption
from octavo_runtime.config.user_path import user_path


@dataclass(frozen=True)
class Report:
    """`finding`: one sentence, with its numbers. `setting`: model and type. `draw` makes the picture, given the line
    that says what ran, when and where. `figures`: all that was measured, in JSON's types and in seconds."""

    name: str
    finding: str
    machine: str
    setting: str
    table: Table
    draw: Callable[[str], Figure]
    figures: dict[str, Any]


def picture_path(out: str, name: str) -> Path:
    """The PNG file that `--out` means: itself, or octavo-bench-NAME.png in the folder that it names. Makes missing
    folders; BadOption where that is not possible."""
    path = user_path(out)
    if path.is_dir() or path.suffix == "":
        path = path / f"octavo-bench-{name}.png"
    elif path.suffix != ".png":
        raise BadOption(f"out: must be a folder or a file that ends in .png, got {out!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOption(f"out: must be a place that can be written, got {out!r} ({error.strerror})") from None
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadOption(f"out: must be a place that can be written, got {out!r} (permission denied)")
    return path


def publish(report: Report, picture: Path, *, as_json: bool) -> None:
    """Saves the picture and prints the report: a table for people, or one JSON object alone on standard output."""
    moment = datetime.now().astimezone()
    command = shlex.join(["octavo", *sys.argv[1:]])
    context = f"{moment:%Y-%m-%d}, {report.machine}, {report.setting}"
    report.draw(f"{command}\n{context}").savefig(picture, format="png")
    if as_json:
        told = {
            "bench": report.name,
            "date": moment.isoformat(timespec="seconds"),
            "machine": report.machine,
            "setting": report.setting,
            "command": command,
            "finding": report.finding,
            "picture": str(picture),
            **report.figures,
        }
        print(json.dumps(told))
        return
    console = Console(highlight=False)
    console.print(f"$ {command}\n{context}", markup=False, soft_wrap=True)
    console.print(report.table)
    console.print(f"{report.finding}\nPicture: {picture}", markup=False, soft_wrap=True)
