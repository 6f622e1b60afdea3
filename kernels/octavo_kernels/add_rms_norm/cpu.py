"""add_rms_norm for the CPU: each row is normalised while it is still in the cache."""

import torch
from torch import Tensor

from octavo_kernels.native import TYPES, loop

_add_rms_norm = loop("add_rms_norm", "iipipipppiidd")


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, total: Tensor | None = None, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """See `octavo_kernels.add_rms_norm`."""
    normed = torch.empty(x.shape, dtype=x.dtype)
    total = torch.empty(x.shape, dtype=residual.dtype) if total is None else total
    _add_rms_norm(
        TYPES[x.dtype], TYPES[residual.dtype], x.data_ptr(), x.stride(0), residual.data_ptr(), residual.stride(0),
        weight.data_ptr(), normed.data_ptr(), total.data_ptr(), *x.shape, eps, offset,
    )  # fmt: skip
    return normed, total
