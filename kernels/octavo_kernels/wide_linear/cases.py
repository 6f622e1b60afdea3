"""The shapes that wide_linear is checked on, and what may be lost."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.wide_linear.reference import wide_linear


@dataclass(frozen=True)
class Case:
    name: str
    rows: int
    width: int
    columns: int

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("one row", 1, 576, 1001),
    Case("odd rows and columns", 3, 33, 1),
    Case("no whole vectors", 4, 80, 7),
    Case("less than a vector", 2, 3, 5),
    Case("long sums", 2, 4096, 64),
)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # of x and the weight
TOLERANCE = 1e-6  # of the sum of the products' magnitudes


def error(form: Callable[[Tensor, Tensor], Tensor], case: Case, dtype: torch.dtype) -> float:
    """Largest error of `form` against the oracle, as a share of the sum of the products' magnitudes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.rows, case.width, generator=generator).to(dtype)
    weight = torch.randn(case.columns, case.width, generator=generator).to(dtype)
    found, magnitudes = form(x, weight), wide_linear(x.abs(), weight.abs())
    assert found.dtype == torch.float32
    return float(((found - wide_linear(x, weight)).abs() / magnitudes).max())
