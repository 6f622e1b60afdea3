"""The oracle of gate_mul, in float64: 1 + tanh and 1 + erf lose digits in float32 where these are near -1."""

from torch import Tensor
from torch.nn.functional import gelu, silu

from octavo_kernels.gate_mul import GatedActivation

_APPROXIMATE: dict[GatedActivation, str] = {"gelu_tanh": "tanh", "gelu": "none"}


def gate_mul(gate_up: Tensor, activation: GatedActivation, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.gate_mul`."""
    gate, up = gate_up.double().chunk(2, dim=-1)
    activated = silu(gate) if activation == "silu" else gelu(gate, approximate=_APPROXIMATE[activation])
    result = (activated * up).to(gate_up.dtype)
    return result if out is None else out.copy_(result)
