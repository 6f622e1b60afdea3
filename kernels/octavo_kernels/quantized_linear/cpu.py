"""quantized_linear for the CPU."""

from torch import Tensor

from octavo_kernels.native import loop, workers
from octavo_kernels.quantized_linear import TILE, PackedGroups

_quantized_linear = loop("quantized_linear", "ipppiiipi")


def quantized_linear(x: Tensor, weight: PackedGroups, bias: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.quantized_linear`."""
    x, columns = x.contiguous(), weight.out_features
    out = x.new_empty(x.shape[0], weight.data.shape[0] * TILE)
    _quantized_linear(weight.bits, weight.data, bias, x, *x.shape, columns, out, workers())
    return out[:, :columns]
