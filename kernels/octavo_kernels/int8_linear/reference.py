"""The oracle of int8_linear, in float64, which holds its sums to the last bit."""

import torch
from torch import Tensor

from octavo_kernels.eight_bits import round_rows
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gate_mul.reference import gate_mul


def int8_linear(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """See `octavo_kernels.int8_linear`."""
    x = x if gate is None else gate_mul(x, gate)
    stored, of_rows = round_rows(x, torch.int8)
    product = (stored.double() @ values.double().T).float() * of_rows * scales.float()
    if bias is not None:
        product += bias.float()
    return product.to(x.dtype) if out is None else out.copy_(product)
