"""wide_linear for the CPU."""

import torch
from torch import Tensor

from octavo_kernels.native import TYPES, loop, workers

_wide_linear = loop("wide_linear", "ippiiipi")


def wide_linear(x: Tensor, weight: Tensor) -> Tensor:
    """See `octavo_kernels.wide_linear`."""
    x, out = x.float().contiguous(), torch.empty(x.shape[0], weight.shape[0])
    _wide_linear(TYPES[weight.dtype], x.data_ptr(), weight.data_ptr(), *x.shape, len(weight), out.data_ptr(), workers())
    return out
