"""write_kv for the CPU."""

from torch import Tensor

from octavo_kernels.native import CACHE_TYPES, TYPES, loop

_write_kv = loop("write_kv", "iipiipiipppiiip")


def write_kv(
    k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor, scales: Tensor | None = None
) -> None:
    """See `octavo_kernels.write_kv`. The blocks of a cache must lie one behind another."""
    _write_kv(
        TYPES[k.dtype], CACHE_TYPES[k_cache.dtype], k, *k.stride()[:2], v, *v.stride()[:2], k_cache, v_cache, slots,
        *k.shape, scales,
    )  # fmt: skip
