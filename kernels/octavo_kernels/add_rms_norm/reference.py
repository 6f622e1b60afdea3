"""The oracle of add_rms_norm."""

from torch import Tensor

from octavo_kernels.rms_norm.reference import rms_norm


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
    added = (x.float() * multiplier + residual.float()).to(residual.dtype)
    total = added if total is None else total.copy_(added)
    return rms_norm(total, weight, eps, offset=offset), total
