"""Causal attention of runs of new tokens over the paged KV cache."""

from torch import Tensor

from octavo_kernels.paged_prefill import cpu
from octavo_kernels.paged_prefill.cpu import PrefillPlan

__all__ = ["PrefillPlan", "paged_prefill", "plan_prefill"]


def paged_prefill(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    max_query_len: int,
    scale: float,
    out: Tensor | None = None,
    plan: PrefillPlan | None = None,
) -> Tensor:
    """Causal attention of the last tokens of each sequence over all its tokens up to each of them.

    Args:
        q: [tokens, q_heads, head_dim], the sequences' queries one behind another; the last dimension is contiguous.
        k_cache, v_cache: [blocks, block_size, kv_heads, head_dim], one layer; all tokens' keys and values are in it.
        block_tables: [batch, width] int32, each sequence's blocks in order; entries past its last block are ignored.
        seq_lens: [batch] int32, tokens of each sequence, its queries included.
        query_start: [batch + 1] int32; rows query_start[b] .. query_start[b + 1] - 1 are the last tokens of sequence b.
        max_query_len: at least the queries of any sequence.
        scale: factor of the scores, usually head_dim ** -0.5.
        out: where to write, like q; allocated if None. Rows past query_start[batch] are not written.
        plan: of `plan_prefill` for these sequences, which all layers share; made anew if None.

    Returns:
        [tokens, q_heads, head_dim], in q's dtype.
    """
    if q.device.type == "cuda":
        from octavo_kernels.paged_prefill import triton

        return triton.paged_prefill(q, k_cache, v_cache, block_tables, seq_lens, query_start, max_query_len, scale, out)
    return cpu.paged_prefill(q, k_cache, v_cache, block_tables, seq_lens, query_start, max_query_len, scale, out, plan)


def plan_prefill(block_tables: Tensor, seq_lens: Tensor, query_start: Tensor, k_cache: Tensor) -> PrefillPlan | None:
    """What a step's layers share: which slots paged_prefill reads, and its masks. None on a GPU, which computes them
    as it goes. Arguments as for paged_prefill; k_cache of any layer."""
    return None if k_cache.device.type == "cuda" else cpu.plan(block_tables, seq_lens, query_start, k_cache)
