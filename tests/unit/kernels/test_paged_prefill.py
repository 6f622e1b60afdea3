"""paged_prefill: every form against the oracle."""

import pytest
import torch
from torch import Tensor

from octavo_kernels.paged_prefill import cpu, paged_prefill, plan_prefill
from octavo_kernels.paged_prefill.cases import CASES, LARGE_CASES, TINY_CASES, TOLERANCES, Case, error

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.paged_prefill, case, dtype, "cpu") <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_plan_made_beforehand_changes_nothing(case: Case) -> None:
    def planned(
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        tables: Tensor,
        seq_lens: Tensor,
        query_start: Tensor,
        max_query_len: int,
        scale: float,
        out: Tensor,
    ) -> Tensor:
        plan = plan_prefill(tables, seq_lens, query_start, k_cache)
        return paged_prefill(q, k_cache, v_cache, tables, seq_lens, query_start, max_query_len, scale, out, plan)

    assert error(planned, case, torch.float32, "cpu") <= TOLERANCES[torch.float32]


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"paged_prefill/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.paged_prefill import triton

    assert error(triton.paged_prefill, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
def test_triton_large_cache(case: Case) -> None:
    from octavo_kernels.paged_prefill import triton

    assert error(triton.paged_prefill, case, torch.bfloat16, "cuda") <= TOLERANCES[torch.bfloat16]
