"""gate_mul: every form against the oracle."""

import pytest
import torch

from octavo_kernels.gate_mul import cpu
from octavo_kernels.gate_mul.cases import CASES, TINY_CASES, TOLERANCES, Case, error

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.gate_mul, case, dtype, "cpu") <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"gate_mul/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.gate_mul import triton

    assert error(triton.gate_mul, case, dtype, "cuda") <= TOLERANCES[dtype]
