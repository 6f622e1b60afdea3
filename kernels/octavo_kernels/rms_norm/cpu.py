"""rms_norm for the CPU, in one pass: at small batches the overhead of each call is its cost."""

import torch
from torch import Tensor

from octavo_kernels.native import TYPES, loop

_rms_norm = loop("rms_norm", "iipippiiidd")


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None, offset: float = 0.0) -> Tensor:
    """See `octavo_kernels.rms_norm`. 16-bit types are rounded once, behind the weight."""
    out = torch.empty(x.shape, dtype=weight.dtype) if out is None else out
    _rms_norm(
        TYPES[x.dtype], TYPES[weight.dtype], x.data_ptr(), x.stride(0), weight.data_ptr(), out.data_ptr(),
        out.stride(0), *x.shape, eps, offset,
    )  # fmt: skip
    return out
