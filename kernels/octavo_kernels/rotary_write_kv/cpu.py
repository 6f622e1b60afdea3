"""rotary_write_kv for the CPU."""

from torch import Tensor

from octavo_kernels.native import TYPES, loop
from octavo_kernels.write_kv.cpu import write_kv

_rotary = loop("rotary", "ipiiiiipp")


def rotary_write_kv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
    scales: Tensor | None = None,
) -> None:
    """See `octavo_kernels.rotary_write_kv`."""
    for heads in (q, k):
        tokens, count, _ = heads.shape
        _rotary(
            TYPES[heads.dtype], heads, *heads.stride()[:2], tokens, count, cos_sin.shape[1], positions, cos_sin
        )  # fmt: skip
    write_kv(k, v, k_cache, v_cache, slots, scales)
