"""paged_prefill: every form against the oracle."""

from itertools import pairwise
from typing import Any

import numpy as np
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
        **options: Any,
    ) -> Tensor:
        lengths = np.stack([query_start.diff().numpy(), seq_lens.numpy()], axis=1)
        of_plan = {name: value for name, value in options.items() if name != "scales"}
        plan = plan_prefill(tables, seq_lens, query_start, k_cache, q.shape[1], lengths, **of_plan)
        return paged_prefill(
            q, k_cache, v_cache, tables, seq_lens, query_start, max_query_len, scale, out, plan, **options
        )

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


def test_hopper_plans_every_tile_once_the_heaviest_first() -> None:
    from octavo_kernels.paged_prefill import hopper

    lengths = np.array([[300, 300], [128, 5000], [2048, 2048]])
    plan = hopper.plan(lengths, torch.device("cpu"))
    assert plan is not None
    tiles = [tuple(tile) for tile in plan.tiles.tolist()]
    assert sorted(tiles) == [*[(0, place) for place in range(3)], (1, 0), *[(2, place) for place in range(16)]]
    work = [
        min(total, total - queries + 128 * (place + 1)) for one, place in tiles for queries, total in [lengths[one]]
    ]
    assert all(one >= other for one, other in pairwise(work))


def test_hopper_leaves_short_queries_to_the_other_form() -> None:
    from octavo_kernels.paged_prefill import hopper

    assert hopper.plan(np.array([[64, 2112]] * 90), torch.device("cpu")) is None
    assert hopper.plan(np.array([[96, 2112]] * 90), torch.device("cpu")) is not None
    assert hopper.plan(np.array([[2047, 2112]]), torch.device("cpu")) is None


HOPPER_CASES = [
    pytest.param(case, dtype, id=f"{case.name}, {dtype}")
    for case in (*CASES, *LARGE_CASES)
    for dtype in TOLERANCES
    if case.batch.head_dim == 128 and case.causal and case.batch.suits_hopper
    if dtype.itemsize == 2 or case.batch.stored is not None
]


@pytest.mark.gpu
@pytest.mark.usefixtures("hopper_gpu")
@pytest.mark.parametrize(("case", "dtype"), HOPPER_CASES)
def test_hopper(case: Case, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries of more than 16 bits are left to the other form."""
    from octavo_kernels.paged_prefill import hopper

    monkeypatch.setattr(hopper, "LEAST_FILLED", 0.0)
    monkeypatch.setattr(hopper, "LEAST_QUERIES", 0)

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
        **options: Any,
    ) -> Tensor:
        lengths = torch.stack([query_start.diff(), seq_lens], 1).cpu().numpy()
        plan = plan_prefill(tables, seq_lens, query_start, k_cache, q.shape[1], lengths)
        assert isinstance(plan, hopper.HopperPrefillPlan)
        # Slots without a token hold numbers that would show.
        k_cache, v_cache = (
            cache.nan_to_num(1e4) if cache.itemsize == 2 else cache.float().nan_to_num(400.0).to(cache.dtype)
            for cache in (k_cache, v_cache)
        )
        return paged_prefill(
            q, k_cache, v_cache, tables, seq_lens, query_start, max_query_len, scale, out, plan, **options
        )

    assert error(planned, case, dtype, "cuda") <= TOLERANCES[dtype]
