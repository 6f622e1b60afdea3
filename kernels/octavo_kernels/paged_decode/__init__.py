"""Attention of one new token per sequence over the paged KV cache."""

from torch import Tensor

from octavo_kernels.paged_decode import cpu


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
) -> Tensor:
    """Attention of each sequence's newest token over all its tokens, itself included.

    Args:
        q: [batch, q_heads, head_dim], batch > 0; the last dimension is contiguous. q_heads is a multiple of kv_heads.
        k_cache, v_cache: [blocks, block_size, kv_heads, head_dim], one layer, the new token included.
        block_tables: [batch, width] int32, each sequence's blocks in order; entries past its last block are ignored.
        seq_lens: [batch] int32, tokens of each sequence, the new one included; at least 1.
        scale: factor of the scores, usually head_dim ** -0.5.
        out: where to write, like q; allocated if None.

    Returns:
        [batch, q_heads, head_dim], in q's dtype. Launches depend on shapes alone: one CUDA graph serves all lengths.
    """
    if q.device.type == "cuda":
        from octavo_kernels.paged_decode import triton

        return triton.paged_decode(q, k_cache, v_cache, block_tables, seq_lens, scale, out)
    return cpu.paged_decode(q, k_cache, v_cache, block_tables, seq_lens, scale, out)
