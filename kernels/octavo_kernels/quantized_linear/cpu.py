"""grouped_linear for the CPU."""

import torch
from torch import Tensor

from octavo_kernels.grouped_linear import TILE, PackedGroups
from octavo_kernels.native import loop, workers

_grouped_linear = loop("grouped_linear", "ippiiipi")


def grouped_linear(x: Tensor, weight: PackedGroups) -> Tensor:
    """See `octavo_kernels.grouped_linear`."""
    x, tiles = x.contiguous(), weight.data.shape[0]
    out = torch.empty(x.shape[0], tiles * TILE)
    _grouped_linear(
        weight.bits, weight.data.data_ptr(), x.data_ptr(), *x.shape, tiles, out.data_ptr(), workers()
    )  # fmt: skip
    return out[:, : weight.out_features]
