"""gated_linear against the oracle, and for how many rows it is there."""

import pytest
import torch

from octavo_kernels.gated_linear import fits, gated_linear
from octavo_kernels.gated_linear.cases import CASES
from octavo_kernels.skinny_linear.cases import TOLERANCES, Case, error


@pytest.mark.gpu
@pytest.mark.usefixtures("hopper_gpu")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_hopper(case: Case, dtype: torch.dtype) -> None:
    def form(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor, _: object) -> object:
        assert case.gate is not None
        return gated_linear(x, weight, case.gate, bias, out)

    assert error(form, case, dtype, "cuda") <= TOLERANCES[dtype]


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (64, 2 * 14336, False),
        (65, 2 * 14336, True),
        (128, 2 * 14336, True),
        (65, 2 * 18944, False),
        (192, 2 * 14336, False),
        (256, 2 * 14336, True),
        (640, 2 * 14336, False),
        (1024, 2 * 14336, True),
        (1025, 2 * 14336, False),
        (8192, 2 * 14336, True),
    ],
)
def test_rows_whose_tiles_fill_the_processors(rows: int, columns: int, expected: bool) -> None:
    assert fits(rows, torch.empty(columns, 8, device="meta")) is expected
