"""quantized_linear for the CPU."""

import torch
from torch import Tensor

from octavo_kernels.native import loop, workers
from octavo_kernels.quantized_linear import TILE, PackedGroups

_quantized_linear = loop("quantized_linear", "ippiiipi")


def quantized_linear(x: Tensor, weight: PackedGroups) -> Tensor:
    """See `octavo_kernels.quantized_linear`."""
    x, tiles = x.contiguous(), weight.data.shape[0]
    out = torch.empty(x.shape[0], tiles * TILE)
    _quantized_linear(
        weight.bits, weight.data.data_ptr(), x.data_ptr(), *x.shape, tiles, out.data_ptr(), workers()
    )  # fmt: skip
    return out[:, : weight.out_features]
