"""rotary for the CPU."""

from torch import Tensor

from octavo_kernels.native import TYPES, loop

_rotary = loop("rotary", "ipiiiiipp")


def rotary(q: Tensor, k: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
    """See `octavo_kernels.rotary`."""
    for heads in (q, k):
        _rotary(TYPES[heads.dtype], heads, *heads.stride()[:2], *heads.shape, positions, cos_sin)
