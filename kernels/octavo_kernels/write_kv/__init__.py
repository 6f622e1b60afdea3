"""Storing new keys and values in the paged KV cache."""

from torch import Tensor


def write_kv(
    k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor, scales: Tensor | None = None
) -> None:
    """Write the keys and values of new tokens into their slots, in place.

    Args:
        k, v: [tokens, kv_heads, head_dim], in the caches' dtype or, on a CPU and into 8 bits, any; the last dimension
            is contiguous.
        k_cache, v_cache: [blocks, block_size, kv_heads, head_dim], one layer; float8_e4m3fn and int8 with scales.
        slots: [tokens] int64, block * block_size + offset in the block; -1 writes nothing (padding).
        scales: [2, kv_heads] float32, what a stored 1 stands for, of keys and of values; None: 1. Numbers that 8 bits
            cannot hold become the largest that they can; on a GPU infinite values do so too, and NaN becomes 0.
    """
    if k.device.type == "cuda":
        from octavo_kernels.write_kv import triton

        triton.write_kv(k, v, k_cache, v_cache, slots, scales)
    else:
        from octavo_kernels.write_kv import cpu

        cpu.write_kv(k, v, k_cache, v_cache, slots, scales)
