"""The gated activation of a SwiGLU feed-forward layer (Shazeer, 2020)."""

from torch import Tensor


def silu_mul(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """silu(gate) * up, where gate and up are the two halves of each row.

    Args:
        gate_up: [tokens, 2 * intermediate]; the last dimension is contiguous.
        out: [tokens, intermediate], where to write; allocated if None.

    Returns:
        [tokens, intermediate], in gate_up's dtype.
    """
    if gate_up.device.type == "cuda":
        from octavo_kernels.silu_mul import triton

        return triton.silu_mul(gate_up, out)
    from octavo_kernels.silu_mul import cpu

    return cpu.silu_mul(gate_up, out)
