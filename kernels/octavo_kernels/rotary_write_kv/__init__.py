"""The rotary position embedding (Su et al., 2021), which turns the first half of a head against its second half, and
storing the new keys and values in the paged KV cache."""

from torch import Tensor


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
    """Rotate queries in place and keys by their positions, computing in float32, and write the rotated keys and the
    values into their slots. What `k` holds afterwards is undefined.

    Args:
        q: [tokens, q_heads, head_dim]; a view into a fused QKV tensor will do, if its last dimension is contiguous.
        k, v: [tokens, kv_heads, head_dim], likewise; q_heads is a multiple of kv_heads.
        positions: [tokens] int64, below the length of `cos_sin`.
        cos_sin: [positions, rotated] float32: rotated / 2 cosines, then as many sines. Of each head the first `rotated`
            entries are turned, all of them or fewer, and the others left as they are.
        k_cache, v_cache, slots, scales: see write_kv.
    """
    if q.device.type == "cuda":
        from octavo_kernels.rotary_write_kv import triton

        triton.rotary_write_kv(q, k, v, positions, cos_sin, k_cache, v_cache, slots, scales)
    else:
        from octavo_kernels.rotary_write_kv import cpu

        cpu.rotary_write_kv(q, k, v, positions, cos_sin, k_cache, v_cache, slots, scales)
