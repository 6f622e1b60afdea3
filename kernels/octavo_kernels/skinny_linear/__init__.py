"""A projection of few rows, whose weights come from memory as fast as it gives them."""

from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gpu import capability

MOST_ROWS = 64


def skinny_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """x @ weight.T + bias, for up to MOST_ROWS rows, where `fits` says so; summed in float32.

    Args:
        x: [rows, in], contiguous.
        weight: [out, in], contiguous; with a gate [2 * out, in].
        bias: a number for each of the weight's rows, of its dtype.
        out: [rows, out], contiguous, where to write; allocated if None.
        gate: what gate_mul makes of the product is computed with it, and not rounded in between.

    Returns:
        [rows, out], in the weight's dtype.
    """
    from octavo_kernels.skinny_linear import hopper

    return hopper.skinny_linear(x, weight, bias, out, gate)


def fits(weight: Tensor) -> bool:
    """Whether there is a form for a weight [out, in] on its device: on Hopper, in 16 bits."""
    if weight.device.type != "cuda" or capability(weight.device) != (9, 0):
        return False
    # The tensor memory accelerator wants rows in steps of 16 bytes.
    return weight.itemsize == 2 and weight.is_contiguous() and weight.shape[1] % 8 == 0
