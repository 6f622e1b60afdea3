"""The oracle of skinny_linear."""

from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gate_mul.reference import gate_mul


def skinny_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, gate: GatedActivation | None = None) -> Tensor:
    """See `octavo_kernels.skinny_linear`; summed in float64, and not rounded to the weight's dtype."""
    product = x.double() @ weight.double().T
    product = product if bias is None else product + bias.double()
    return product if gate is None else gate_mul(product, gate)
