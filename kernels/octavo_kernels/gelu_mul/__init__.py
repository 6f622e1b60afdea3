"""The gated activation of a GEGLU feed-forward layer (Shazeer, 2020), with GELU's approximation by tanh (Hendrycks and
Gimpel, 2016)."""

from torch import Tensor


def gelu_mul(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """gelu(gate) * up, where gate and up are the two halves of each row, and gelu(x) = x / 2 * (1 + tanh(u)) for u =
    sqrt(2 / pi) * (x + 0.044715 * x ** 3).

    Args:
        gate_up: [tokens, 2 * intermediate]; the last dimension is contiguous.
        out: [tokens, intermediate], where to write; allocated if None.

    Returns:
        [tokens, intermediate], in gate_up's dtype.
    """
    if gate_up.device.type == "cuda":
        from octavo_kernels.gelu_mul import triton

        return triton.gelu_mul(gate_up, out)
    from octavo_kernels.gelu_mul import cpu

    return cpu.gelu_mul(gate_up, out)
