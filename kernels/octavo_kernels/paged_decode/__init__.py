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
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    scales: Tensor | None = None,
) -> Tensor:
    """Attention of each sequence's newest token over all its tokens, itself included.

    Args:
        q: [batch, q_heads, head_dim], batch > 0, in the caches' dtype or, on a CPU and with scales, any; the last
            dimension is contiguous. q_heads is a multiple of kv_heads.
        k_cache, v_cache: [blocks, block_size, kv_heads, head_dim], one layer, the new token included.
        block_tables: [batch, width] int32, each sequence's blocks in order; entries past its last block are ignored.
        seq_lens: [batch] int32, tokens of each sequence, the new one included; at least 1. On a GPU the last sequences
            may have 0, which is padding: their output means nothing.
        scale: factor of the scores, usually head_dim ** -0.5.
        out: where to write, like q; allocated if None.
        plan: of `plan_decode` for these sequences, which all layers of one window share; made anew if None.
        window: attends to the last `window` tokens alone, the new one among them (Beltagy et al., 2020).
        softcap: scores s become softcap * tanh(s / softcap) (Gemma 2, 2024).
        sinks: [q_heads] float32; of each head a score that counts in the softmax, and brings nothing (Xiao et al. 2023,
            gpt-oss).
        slopes: [q_heads] float32; to each score comes its head's slope times the key's distance, the key's position
            less the query's, after the softcap (ALiBi, Press et al. 2022).
        scales: [2, kv_heads] float32, of caches of 8 bits: what a stored 1 stands for, of keys and of values.

    Returns:
        [batch, q_heads, head_dim], in q's dtype. Launches depend on shapes alone: one CUDA graph serves all lengths.
    """
    if q.device.type == "cuda":
        from octavo_kernels.paged_decode import hopper, triton

        is_plain = window is None and softcap is None and sinks is None and slopes is None
        if is_plain and q.itemsize == 2 and hopper.fits(q.shape[1], k_cache):
            assert plan is None or isinstance(plan, hopper.HopperPlan)
            return hopper.paged_decode(q, k_cache, v_cache, block_tables, seq_lens, scale, out, plan, scales)
        return triton.paged_decode(
            q, k_cache, v_cache, block_tables, seq_lens, scale, out, window, softcap, sinks, slopes, scales
        )
    from octavo_kernels.paged_decode import cpu

    assert plan is None or isinstance(plan, cpu.DecodePlan)
    return cpu.paged_decode(
        q, k_cache, v_cache, block_tables, seq_lens, scale, out, window, softcap, sinks, slopes, scales, plan
    )


def plan_decode(
    block_tables: Tensor,
    seq_lens: Tensor,
    k_cache: Tensor,
    q_heads: int,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
) -> "DecodePlan | HopperPlan | None":
    """What a step's layers share. None on a GPU where the form for Hopper does not serve, which has no window,
    softcap, sinks or slopes: the other computes it as it goes, also for queries of more than 16 bits. Arguments as for
    paged_decode; k_cache, sinks and slopes of any layer."""
    if k_cache.device.type == "cuda":
        from octavo_kernels.paged_decode import hopper

        is_plain = window is None and softcap is None and sinks is None and slopes is None
        fits = is_plain and hopper.fits(q_heads, k_cache)
        return hopper.plan(block_tables, seq_lens, k_cache, q_heads) if fits else None
    from octavo_kernels.paged_decode import cpu

    return cpu.plan(block_tables, seq_lens, k_cache, q_heads)
