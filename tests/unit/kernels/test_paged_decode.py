"""paged_decode: every form against the oracle."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavo_kernels.paged_decode import cpu, paged_decode, plan_decode
from octavo_kernels.paged_decode.cases import (
    CASES,
    COMMON_CASES,
    LARGE_CASES,
    PADDED_CASES,
    TINY_CASES,
    TOLERANCES,
    Case,
    error,
    paged_cache,
)

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.paged_decode, case, dtype, "cpu") <= TOLERANCES[dtype]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu_with_float32_queries(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.paged_decode, case, dtype, "cpu", computed=torch.float32) <= TOLERANCES[torch.float32]


def planned(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor,
    **options: Any,
) -> Tensor:
    of_plan = {name: value for name, value in options.items() if name != "scales"}
    plan = plan_decode(tables, seq_lens, k_cache, q.shape[1], **of_plan)
    return paged_decode(q, k_cache, v_cache, tables, seq_lens, scale, out, plan, **options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_plan_made_beforehand_changes_nothing(case: Case) -> None:
    assert error(planned, case, torch.float32, "cpu") <= TOLERANCES[torch.float32]


@pytest.mark.gpu
@pytest.mark.parametrize("case", [case for case in CASES if case.stored is not None], ids=lambda case: case.name)
@DTYPES
def test_a_gpu_plans_for_queries_of_any_type(case: Case, dtype: torch.dtype) -> None:
    assert error(planned, case, dtype, "cuda") <= TOLERANCES[dtype]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=6),
    st.sampled_from((1, 2, 3)),
    st.sampled_from((1, 2, 3)),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_part_is_computed_however_the_work_is_cut(
    lengths: list[int], kv_heads: int, group: int, workers: int, by_head: bool
) -> None:
    case = Case("random", tuple(lengths), kv_heads * group, kv_heads, 16, block_size=8)

    def cut(
        q: Tensor, k_cache: Tensor, v_cache: Tensor, tables: Tensor, seq_lens: Tensor, scale: float, out: Tensor
    ) -> Tensor:
        plan = cpu.plan(tables, seq_lens, k_cache, q.shape[1])
        plan.words[-2:] = torch.tensor([kv_heads if by_head else 1, workers])
        return cpu.paged_decode(q, k_cache, v_cache, tables, seq_lens, scale, out, shared=plan)

    assert error(cut, case, torch.float32, "cpu") <= TOLERANCES[torch.float32]


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"paged_decode/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.parametrize(
    "case",
    [case for case in (*TINY_CASES, *PADDED_CASES, *COMMON_CASES) if case.suits_hopper],
    ids=lambda case: case.name,
)
def test_hopper_interpreted(case: Case, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"paged_decode/hopper/{case.name}"] <= TOLERANCES[torch.float16]


HOPPER_CASES = [case for case in (*CASES, *PADDED_CASES, *COMMON_CASES, *LARGE_CASES) if case.suits_hopper]


@pytest.mark.gpu
@pytest.mark.usefixtures("hopper_gpu")
@pytest.mark.parametrize("case", HOPPER_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_hopper(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.paged_decode import hopper

    assert error(hopper.paged_decode, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.usefixtures("hopper_gpu")
@pytest.mark.parametrize("case", HOPPER_CASES, ids=lambda case: case.name)
def test_hopper_with_the_plan_of_a_step(case: Case) -> None:
    from octavo_kernels.paged_decode import hopper

    def planned(
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        tables: Tensor,
        lengths: Tensor,
        scale: float,
        out: Tensor,
        **of: Any,
    ) -> Tensor:
        plan = hopper.plan(tables, lengths, k_cache, q.shape[1])
        for _ in range(2):  # layers
            hopper.paged_decode(q, k_cache, v_cache, tables, lengths, scale, out, plan, **of)
        return out

    assert error(planned, case, torch.bfloat16, "cuda") <= TOLERANCES[torch.bfloat16]


@pytest.mark.gpu
@pytest.mark.usefixtures("hopper_gpu")
def test_hopper_keeps_the_faults_of_a_sequence_from_those_that_share_its_prefix() -> None:
    from octavo_kernels.paged_decode import hopper

    case = Case("faulty", (300, 290, 310, 280), 8, 2, 64, common=(0, 17, 17, 17))
    keys, values, tables = paged_cache(case, torch.bfloat16, "cuda", torch.Generator().manual_seed(0))
    lengths = torch.tensor(case.seq_lens, dtype=torch.int32, device="cuda")
    q = torch.randn(4, 8, 64, dtype=torch.bfloat16, device="cuda")
    right = hopper.paged_decode(q, keys, values, tables, lengths, 0.125)
    keys[tables[1, 17:19].long()] = torch.nan
    q[1] = torch.inf
    faulty = hopper.paged_decode(q, keys, values, tables, lengths, 0.125)
    assert not faulty[1].isfinite().all()
    assert torch.equal(faulty[[0, 2, 3]], right[[0, 2, 3]])


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*CASES, *PADDED_CASES], ids=lambda case: case.name)
@DTYPES
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.paged_decode import triton

    assert error(triton.paged_decode, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
def test_triton_large_cache(case: Case) -> None:
    from octavo_kernels.paged_decode import triton

    assert error(triton.paged_decode, case, torch.bfloat16, "cuda") <= TOLERANCES[torch.bfloat16]
