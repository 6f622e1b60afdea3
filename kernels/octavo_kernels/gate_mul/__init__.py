"""The gated activation of a SwiGLU or GEGLU feed-forward layer (Shazeer, 2020)."""

from typing import Literal

from torch import Tensor

GatedActivation = Literal["silu", "gelu_tanh", "gelu"]
"""gelu: x times the share of a standard normal distribution below x (Hendrycks and Gimpel, 2016). gelu_tanh: its
approximation by tanh, x / 2 * (1 + tanh(u)) for u = sqrt(2 / pi) * (x + 0.044715 * x ** 3)."""


def gate_mul(gate_up: Tensor, activation: GatedActivation, out: Tensor | None = None) -> Tensor:
    """activation(gate) * up, where gate and up are the two halves of each row.

    Args:
        gate_up: [tokens, 2 * intermediate]; the last dimension is contiguous.
        out: [tokens, intermediate], where to write; allocated if None.

    Returns:
        [tokens, intermediate], in gate_up's dtype.
    """
    if gate_up.device.type == "cuda":
        from octavo_kernels.gate_mul import triton

        return triton.gate_mul(gate_up, activation, out)
    from octavo_kernels.gate_mul import cpu

    return cpu.gate_mul(gate_up, activation, out)
