"""wide_linear for the CPU."""

from torch import Tensor

from octavo_kernels.native import TYPES, loop, workers

_wide_linear = loop("wide_linear", "ippiiipi")


def wide_linear(x: Tensor, weight: Tensor) -> Tensor:
    """See `octavo_kernels.wide_linear`."""
    x = x.float().contiguous()
    out = x.new_empty(x.shape[0], weight.shape[0])
    _wide_linear(TYPES[weight.dtype], x, weight, *x.shape, len(weight), out, workers())
    return out
