"""write_kv: every form against the oracle."""

import pytest
import torch

from octavo_kernels.write_kv import cpu
from octavo_kernels.write_kv.cases import CASES, LARGE_CASES, TINY_CASES, TOLERANCES, Case, error

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.write_kv, case, dtype, "cpu") <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu_rounds_what_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.write_kv, case, dtype, "cpu", computed=torch.float32) == 0


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"write_kv/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.write_kv import triton

    assert error(triton.write_kv, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
def test_triton_large_cache(case: Case) -> None:
    from octavo_kernels.write_kv import triton

    assert error(triton.write_kv, case, torch.bfloat16, "cuda") <= TOLERANCES[torch.bfloat16]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_triton_stores_finite_values(dtype: torch.dtype) -> None:
    """An attention may multiply several sequences' values together, by weights of which some are 0."""
    from octavo_kernels.write_kv import triton

    v = torch.tensor([torch.inf, -torch.inf, torch.nan, 3.0], dtype=dtype, device="cuda").view(1, 1, 4)
    caches = torch.zeros(2, 1, 16, 1, 4, dtype=dtype, device="cuda")
    triton.write_kv(v, v, *caches, torch.zeros(1, dtype=torch.int64, device="cuda"))
    largest = torch.finfo(dtype).max
    assert caches[1, 0, 0, 0].tolist() == [largest, -largest, 0.0, 3.0]
