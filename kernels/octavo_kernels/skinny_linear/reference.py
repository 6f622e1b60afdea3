"""The oracle of skinny_linear."""

from torch import Tensor


def skinny_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.skinny_linear`; summed in float64, and not rounded to the weight's dtype."""
    product = x.double() @ weight.double().T
    return product if bias is None else product + bias.double()
