"""Tables that go to a file or a pipe."""

import os
import subprocess
import sys


def test_a_table_that_no_terminal_shows_is_as_wide_as_it_needs() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "octavo_runtime", "plan", "meta-llama/Llama-3.1-8B", "--gpu-memory", "80GB"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert 80 < max(map(len, shown.splitlines())) <= 160


def test_closed_streams_are_no_stack_trace() -> None:
    """As a service may start a command, and `>&-`."""
    for closed in ("<&-", ">&-", "<&- >&-"):
        command = f"exec {sys.executable} -m octavo_runtime models {closed}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
