"""Runs the Triton kernels in Triton's interpreter, and leaves GPU tests out where there is no GPU."""

import json

import pytest
import torch
from compilations import output


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU: torch.cuda.is_available() is false")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def several_threads() -> None:
    """Loops of native code are shared out, also where the tests run on one thread each."""
    torch.set_num_threads(max(torch.get_num_threads(), 2))


@pytest.fixture
def hopper_gpu() -> None:
    """Leaves a test of a form for Hopper out on another GPU."""
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a Hopper GPU")


@pytest.fixture(scope="session")
def interpreted_errors() -> dict[str, float]:
    """Errors of the tiny cases by "op/case/dtype". In a process of its own: Triton reads the variable when imported."""
    errors: dict[str, float] = json.loads(output("interpret.py", TRITON_INTERPRET="1"))
    return errors
