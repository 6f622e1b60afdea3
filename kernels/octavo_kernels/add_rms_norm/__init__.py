"""Adding a layer's output to the residual stream, and normalising the sum for the next layer."""

from torch import Tensor


def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    eps: float,
    total: Tensor | None = None,
    multiplier: float = 1.0,
    offset: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The rms_norm of x * multiplier + residual, and the sum itself.

    Args:
        x: [tokens, hidden], in the dtype of the model; the last dimension is contiguous.
        residual: [tokens, hidden], in x's dtype or, on a CPU, float32.
        weight: [hidden], in x's dtype.
        eps: added to the mean square.
        total: where to write the sum, [tokens, hidden], contiguous, in residual's dtype; may be residual itself;
            allocated if None.
        multiplier: of x.
        offset: see `octavo_kernels.rms_norm`.

    Returns:
        (normed, the sum), both [tokens, hidden]: the first in x's dtype, the sum in residual's; it is rounded
        before it is normalised.
    """
    if x.device.type == "cuda":
        from octavo_kernels.add_rms_norm import triton

        return triton.add_rms_norm(x, residual, weight, eps, total, multiplier, offset)
    from octavo_kernels.add_rms_norm import cpu

    return cpu.add_rms_norm(x, residual, weight, eps, total, multiplier, offset)
