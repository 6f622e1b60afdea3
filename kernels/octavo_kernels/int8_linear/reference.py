"""The oracle of int8_linear, in float64, which holds its sums to the last bit."""

import torch
from torch import Tensor


def int8_linear(
    x: Tensor, values: Tensor, scales: Tensor, bias: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """See `octavo_kernels.int8_linear`."""
    stored, of_rows = rounded_rows(x)
    product = (stored.double() @ values.double().T).float() * of_rows * scales.float()
    if bias is not None:
        product += bias.float()
    return product.to(x.dtype) if out is None else out.copy_(product)


def rounded_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of x [rows, in]: int8 [rows, in], and the rows' scales, float32 [rows, 1]."""
    largest = x.float().abs().amax(dim=1, keepdim=True)
    scales = (largest / largest.new_tensor(127.0)).clamp(min=1e-12)  # a GPU would multiply by the inverse of a float
    return (x.float() / scales).round().to(torch.int8), scales
