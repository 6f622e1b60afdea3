"""Storing new keys and values in the paged KV cache."""

from torch import Tensor


def write_kv(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor) -> None:
    """Write the keys and values of new tokens into their slots, in place.

    Args:
        k, v: [tokens, kv_heads, head_dim], in the caches' dtype or, on a CPU, any; the last dimension is contiguous.
        k_cache, v_cache: [blocks, block_size, kv_heads, head_dim], one layer.
        slots: [tokens] int64, block * block_size + offset in the block; -1 writes nothing (padding).
    """
    if k.device.type == "cuda":
        from octavo_kernels.write_kv import triton

        triton.write_kv(k, v, k_cache, v_cache, slots)
    else:
        from octavo_kernels.write_kv import cpu

        cpu.write_kv(k, v, k_cache, v_cache, slots)
