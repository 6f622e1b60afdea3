"""Running other programs, with an error that shows their last lines."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from steps import StepFailed

SHOWN_LINES = 15


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    advice: str = "see the lines above",
) -> str:
    """Run `argv` to its end and return its standard output.

    Args:
        env: variables added to this process's environment.
        advice: what the user can do when it fails.

    Raises:
        StepFailed: it could not start or ended with another status than 0.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words, input=stdin, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as missing:
        raise StepFailed(f"{words[0]}: command not found", advice) from missing
    if done.returncode:
        raise StepFailed(
            f"`{' '.join(words[:6])}` ended with status {done.returncode}:\n{last_lines(done.stdout + done.stderr)}",
            advice,
        )
    return done.stdout


def succeeds(argv: Sequence[str | Path]) -> bool:
    """Whether `argv` exists and ends with status 0."""
    try:
        return subprocess.run([str(word) for word in argv], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def last_lines(text: str) -> str:
    """The last lines of a program's output, indented."""
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-SHOWN_LINES:])
