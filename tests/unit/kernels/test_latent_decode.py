"""latent_decode: every form against the oracle."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_kernels.latent_decode import cpu
from octavo_kernels.latent_decode.cases import CASES, LARGE_CASES, PADDED_CASES, TINY_CASES, TOLERANCES, Case, error

DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@DTYPES
def test_cpu(case: Case, dtype: torch.dtype) -> None:
    assert error(cpu.latent_decode, case, dtype, "cpu") <= TOLERANCES[dtype]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=6),
    st.integers(1, 9),
    st.integers(1, 40),
    st.sampled_from((2, 6, 16)),
)
def test_any_lengths_and_sizes(lengths: list[int], heads: int, rank: int, rope: int) -> None:
    case = Case("random", tuple(lengths), heads, rank, rope, block_size=8)
    assert error(cpu.latent_decode, case, torch.float32, "cpu") <= TOLERANCES[torch.float32]


@pytest.mark.parametrize("case", [*TINY_CASES, *PADDED_CASES], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"latent_decode/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*CASES, *PADDED_CASES], ids=lambda case: case.name)
@DTYPES
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.latent_decode import triton

    assert error(triton.latent_decode, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", LARGE_CASES, ids=lambda case: case.name)
def test_triton_large_cache(case: Case) -> None:
    from octavo_kernels.latent_decode import triton

    assert error(triton.latent_decode, case, torch.bfloat16, "cuda") <= TOLERANCES[torch.bfloat16]
