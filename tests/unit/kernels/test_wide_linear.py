"""wide_linear against float64."""

import pytest
import torch

from octavo_kernels.wide_linear.cpu import wide_linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("rows", "width", "columns"), [(1, 576, 1001), (4, 80, 7), (3, 33, 1), (2, 4096, 64)])
def test_sums_keep_float32s_digits(dtype: torch.dtype, rows: int, width: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, width, generator=generator).to(dtype)
    weight = torch.randn(columns, width, generator=generator).to(dtype)
    out = wide_linear(x, weight)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), x.double() @ weight.double().T, rtol=1e-5, atol=1e-4)
