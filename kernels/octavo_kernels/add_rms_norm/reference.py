"""The oracle of add_rms_norm."""

from torch import Tensor

from octavo_kernels.rms_norm.reference import rms_norm


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See `octavo_kernels.add_rms_norm`."""
    total = x + residual
    return rms_norm(total, weight, eps), total
