"""add_rms_norm for the CPU: each row is normalised while it is still in the cache."""

from torch import Tensor

from octavo_kernels.native import TYPES, loop

_add_rms_norm = loop("add_rms_norm", "iipipipppiiddd")


def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    eps: float,
    total: Tensor | None = None,
    multiplier: float = 1.0,
    offset: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """See `octavo_kernels.add_rms_norm`."""
    normed = x.new_empty(x.shape)
    total = residual.new_empty(x.shape) if total is None else total
    _add_rms_norm(
        TYPES[x.dtype], TYPES[residual.dtype], x, x.stride(0), residual, residual.stride(0), weight, normed, total,
        *x.shape, eps, multiplier, offset,
    )  # fmt: skip
    return normed, total
