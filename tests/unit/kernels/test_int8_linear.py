"""int8_linear: every form against the oracle."""

import pytest
import torch

from octavo_kernels.eight_bits import round_rows
from octavo_kernels.int8_linear import multiplies_int8
from octavo_kernels.int8_linear.cases import CASES, TINY_CASES, TOLERANCES, Case, error
from octavo_kernels.int8_linear.reference import int8_linear


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_triton_interpreted(case: Case, dtype: torch.dtype, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"int8_linear/{case.name}/{dtype}"] <= TOLERANCES[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_triton(case: Case, dtype: torch.dtype) -> None:
    from octavo_kernels.int8_linear import triton

    assert error(triton.int8_linear, case, dtype, "cuda") <= TOLERANCES[dtype]


def test_rounding_a_row_loses_at_most_half_a_step_of_its_largest_number() -> None:
    x = torch.randn(20, 300, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 20).unsqueeze(1)
    stored, scales = round_rows(x, torch.int8)
    assert ((stored * scales - x).abs() <= scales * 0.5001).all()
    assert (stored.abs().amax(dim=1) == 127).all()


def test_the_oracle_is_the_product_of_what_is_rounded_little() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 256, generator=generator)
    values = torch.randint(-128, 128, (40, 256), generator=generator, dtype=torch.int8)
    scales = torch.rand(40, generator=generator) / 1000
    expected = x @ (values * scales.unsqueeze(1)).T
    torch.testing.assert_close(
        int8_linear(x, values, scales), expected, rtol=0, atol=0.02 * float(expected.abs().max())
    )


def test_int8_is_multiplied_by_a_gpu_alone() -> None:
    assert not multiplies_int8(torch.zeros(32, 64, dtype=torch.int8), torch.bfloat16)
