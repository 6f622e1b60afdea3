"""Attention of one new token per sequence over the paged KV cache."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from octavo_kernels.paged_decode.cpu import DecodePlan
    from octavo_kernels.paged_decode.hopper import HopperPlan


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
    plan: "DecodePlan | HopperPlan | None" = None,
) -> Tensor:
    """Attention of each sequence's newest token over all its tokens, itself included.

    Args:
        q: [batch, q_heads, head_dim], batch > 0, in the caches' dtype or, on a CPU, any; the last dimension is
            contiguous. q_heads is a multiple of kv_heads.
        k_cache, v_cache: [blocks, block_size, kv_heads, head_dim], one layer, the new token included.
        block_tables: [batch, width] int32, each sequence's blocks in order; entries past its last block are ignored.
        seq_lens: [batch] int32, tokens of each sequence, the new one included; at least 1. On a GPU the last sequences
            may have 0, which is padding: their output means nothing.
        scale: factor of the scores, usually head_dim ** -0.5.
        out: where to write, like q; allocated if None.
        plan: of `plan_decode` for these sequences, which all layers share; made anew if None.

    Returns:
        [batch, q_heads, head_dim], in q's dtype. Launches depend on shapes alone: one CUDA graph serves all lengths.
    """
    if q.device.type == "cuda":
        from octavo_kernels.paged_decode import hopper, triton

        if hopper.fits(q.shape[1], k_cache):
            assert plan is None or isinstance(plan, hopper.HopperPlan)
            return hopper.paged_decode(q, k_cache, v_cache, block_tables, seq_lens, scale, out, plan)
        return triton.paged_decode(q, k_cache, v_cache, block_tables, seq_lens, scale, out)
    from octavo_kernels.paged_decode import cpu

    assert plan is None or isinstance(plan, cpu.DecodePlan)
    return cpu.paged_decode(q, k_cache, v_cache, block_tables, seq_lens, scale, out, plan)


def plan_decode(
    block_tables: Tensor, seq_lens: Tensor, k_cache: Tensor, q_heads: int
) -> "DecodePlan | HopperPlan | None":
    """What a step's layers share. None on a GPU that is no Hopper, which computes it as it goes. Arguments as for
    paged_decode; k_cache of any layer."""
    if k_cache.device.type == "cuda":
        from octavo_kernels.paged_decode import hopper

        return hopper.plan(seq_lens, k_cache, q_heads) if hopper.fits(q_heads, k_cache) else None
    from octavo_kernels.paged_decode import cpu

    return cpu.plan(block_tables, seq_lens, k_cache, q_heads)
