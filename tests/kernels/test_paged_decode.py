"""paged_decode: every form against the oracle."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavo_kernels.paged_decode import cpu, paged_decode, plan_decode
from octavo_kernels.paged_decode.cases import CASES, LARGE_CASES, TINY_CASES, TOLERANCES, Case, error

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.paged_decode, case, dtype, "cpu") <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_plan_made_beforehand_changes_nothing(case: Case) -> None:
    def planned(
        q: Tensor, k_cache: Tensor, v_cache: Tensor, tables: Tensor, seq_lens: Tensor, scale: float, out: Tensor
    ) -> Tensor:
        plan = plan_decode(tables, seq_lens, k_cache)
        return paged_decode(q, k_cache, v_cache, tables, seq_lens, scale, out, plan)

    assert error(planned, case, torch.float32, "cpu") <= TOLERANCES[torch.float32]


@settings(deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=80), st.integers(1, 10_000))
def test_groups_hold_every_sequence_once_and_pad_less_than_they_attend_to(lengths: list[int], capacity: int) -> None:
    runs = cpu._runs_of_similar_length(lengths, capacity)
    assert [index for run in runs for index in range(run.start, run.stop)] == list(range(len(lengths)))
    for run in runs:
        members = lengths[run]
        assert 2 * min(members) >= max(members)
        assert len(members) == 1 or len(members) * max(members) <= capacity


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"paged_decode/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.paged_decode import triton

    assert error(triton.paged_decode, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
def test_triton_large_cache(case: Case) -> None:
    from octavo_kernels.paged_decode import triton

    assert error(triton.paged_decode, case, torch.bfloat16, "cuda") <= TOLERANCES[torch.bfloat16]
