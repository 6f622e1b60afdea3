"""Root mean square layer normalisation (Zhang and Sennrich, 2019)."""

from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None, offset: float = 0.0) -> Tensor:
    """x / sqrt(mean(x ** 2) + eps), computed in float32 and cast to the weight's dtype, times weight.

    Args:
        x: [tokens, hidden] or [tokens, heads, hidden], in weight's dtype or, on a CPU, float32; the last dimension is
            contiguous.
        weight: [hidden], in the dtype of the model.
        eps: added to the mean square.
        out: where to write, like x in weight's dtype; allocated if None.
        offset: the factor is offset + weight, and unless it is 0 the product is cast, not the factors: as Gemma has it.

    Returns:
        Like x, in weight's dtype.
    """
    if x.device.type == "cuda":
        from octavo_kernels.rms_norm import triton

        return triton.rms_norm(x, weight, eps, out, offset)
    from octavo_kernels.rms_norm import cpu

    return cpu.rms_norm(x, weight, eps, out, offset)
