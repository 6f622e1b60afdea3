"""rotary for the CPU."""

from torch import Tensor

from octavo_kernels.native import TYPES, loop

_rotary = loop("rotary", "ipiiiiipp")


def rotary(q: Tensor, k: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
    """See `octavo_kernels.rotary`."""
    for heads in (q, k):
        tokens, count, _ = heads.shape
        _rotary(
            TYPES[heads.dtype], heads, *heads.stride()[:2], tokens, count, cos_sin.shape[1], positions, cos_sin
        )  # fmt: skip
