"""Rotary position embedding (Su et al., 2021), rotating the first half of a head against its second half."""

from torch import Tensor


def rotary(q: Tensor, k: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
    """Rotate queries and keys by their positions, in place, computing in float32.

    Args:
        q: [tokens, q_heads, head_dim]; a view into a fused QKV tensor will do, if its last dimension is contiguous.
        k: [tokens, kv_heads, head_dim], likewise.
        positions: [tokens] int64, below the length of `cos_sin`.
        cos_sin: [positions, rotated] float32: rotated / 2 cosines, then as many sines. Of each head the first `rotated`
            entries are turned, all of them or fewer, and the others left as they are.
    """
    if q.device.type == "cuda":
        from octavo_kernels.rotary import triton

        triton.rotary(q, k, positions, cos_sin)
    else:
        from octavo_kernels.rotary import cpu

        cpu.rotary(q, k, positions, cos_sin)
