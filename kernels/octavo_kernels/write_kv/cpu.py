"""write_kv for the CPU."""

from torch import Tensor

from octavo_kernels.native import loop

_write_kv = loop("write_kv", "piipiipppiii")


def write_kv(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor) -> None:
    """See `octavo_kernels.write_kv`. The blocks of a cache must lie one behind another."""
    size = k.itemsize
    _write_kv(
        k.data_ptr(), k.stride(0) * size, k.stride(1) * size, v.data_ptr(), v.stride(0) * size, v.stride(1) * size,
        k_cache.data_ptr(), v_cache.data_ptr(), slots.data_ptr(), len(slots), k.shape[1], k.shape[2] * size,
    )  # fmt: skip
