"""The oracle of add_rms_norm."""

import torch
from torch import Tensor

from octavo_kernels.rms_norm.reference import rms_norm


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, total: Tensor | None = None, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """See `octavo_kernels.add_rms_norm`."""
    total = torch.add(x, residual, out=total)
    return rms_norm(total, weight, eps, offset=offset), total
