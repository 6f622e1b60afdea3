"""Gate and up of a feed-forward layer with their activation, for more rows than skinny_linear takes.

One form, for Hopper; what it computes is skinny_linear's oracle's."""

from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.skinny_linear import MOST_ROWS


def gated_linear(
    x: Tensor,
    weight: Tensor,
    gate: GatedActivation,
    bias: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """What gate_mul makes of x @ weight.T + bias, which is summed in float32 and not rounded in between; where `fits`
    says so.

    Args:
        x: [rows, in], contiguous.
        weight: [2 * out, in], contiguous.
        bias: [2 * out], of the weight's dtype.
        out: [rows, out], contiguous, where to write; allocated if None.

    Returns:
        [rows, out], in the weight's dtype.
    """
    from octavo_kernels.gated_linear import hopper

    return hopper.gated_linear(x, weight, gate, bias, out)


def fits(rows: int, weight: Tensor) -> bool:
    """Whether this is the form for so many rows and a weight [2 * out, in] that `skinny_linear.fits`."""
    from octavo_kernels.gated_linear import hopper

    return rows > MOST_ROWS and hopper.fills(rows, weight)
