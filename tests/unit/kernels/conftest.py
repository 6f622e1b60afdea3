"""Runs the Triton kernels in Triton's interpreter, and leaves GPU tests out where there is no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU: torch.cuda.is_available() is false")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def interpreted_errors() -> dict[str, float]:
    """Errors of the tiny cases by "op/case/dtype". In a process of its own: Triton reads the variable when imported."""
    program = Path(__file__).with_name("interpret.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    errors: dict[str, float] = json.loads(run.stdout)
    return errors
