import pytest
import torch

from octavo_kernels.wide_linear import wide_linear
from octavo_kernels.wide_linear.cases import CASES, DTYPES, TOLERANCE, Case, error


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_keep_float32s_digits(case: Case, dtype: torch.dtype) -> None:
    assert error(wide_linear, case, dtype) <= TOLERANCE
