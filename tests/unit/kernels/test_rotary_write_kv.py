"""rotary_write_kv: every form against the oracle."""

import pytest
import torch

from octavo_kernels.rotary_write_kv import cpu
from octavo_kernels.rotary_write_kv.cases import CASES, LARGE_CASES, TINY_CASES, TOLERANCES, Case, error

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.rotary_write_kv, case, dtype, "cpu") <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu_rounds_what_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.rotary_write_kv, case, torch.float32, "cpu", cached=dtype) <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"rotary_write_kv/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.rotary_write_kv import triton

    assert error(triton.rotary_write_kv, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
def test_triton_large_cache(case: Case) -> None:
    from octavo_kernels.rotary_write_kv import triton

    assert error(triton.rotary_write_kv, case, torch.bfloat16, "cuda") <= TOLERANCES[torch.bfloat16]
