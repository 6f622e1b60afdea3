"""A projection of integers of 8 bits by integers of 8 bits: the weight is stored so, and each row of what is multiplied
by it is rounded with a scale of its own (dynamic W8A8, as in Dettmers et al. 2022, without outliers)."""

import torch
from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation

# A sum of so many products of two bytes stays within 32 bits.
MOST_TERMS = 2**17


def int8_linear(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """x @ (values * scales).T + bias with x rounded to int8, each row over what its largest number is over 127. Sums
    are exact, and are scaled in float32; nothing waits for the device.

    Args:
        x: [rows, in], contiguous; with a gate [rows, 2 * in].
        values: [out, in] int8, contiguous; at most MOST_TERMS columns.
        scales: [out], any float, contiguous.
        bias: [out], of x's dtype.
        out: [rows, out], contiguous, where to write; allocated if None.
        gate: what gate_mul makes of x is multiplied.

    Returns:
        [rows, out], in x's dtype.
    """
    if x.device.type == "cuda":
        from octavo_kernels.int8_linear import triton

        return triton.int8_linear(x, values, scales, bias, out, gate)
    from octavo_kernels.int8_linear import reference

    return reference.int8_linear(x, values, scales, bias, out, gate)


def multiplies_int8(values: Tensor, dtype: torch.dtype) -> bool:
    """Whether a GPU multiplies by values [out, in] so, and is faster for it than in `dtype`."""
    is_int8 = values.device.type == "cuda" and values.dtype == torch.int8
    return is_int8 and dtype != torch.float32 and values.shape[1] <= MOST_TERMS and values.shape[1] % 16 == 0
