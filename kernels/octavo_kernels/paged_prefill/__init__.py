"""Attention of runs of new tokens over the paged KV cache, mostly causal."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor

if TYPE_CHECKING:
    from octavo_kernels.paged_prefill.cpu import PrefillPlan
    from octavo_kernels.paged_prefill.hopper import HopperPrefillPlan


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
    plan: "PrefillPlan | HopperPrefillPlan | None" = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    scales: Tensor | None = None,
    causal: bool = True,
) -> Tensor:
    """Attention of the last tokens of each sequence over all its tokens up to each of them.

    Args:
        q: [tokens, q_heads, head_dim], the sequences' queries one behind another; the last dimension is contiguous.
        k_cache, v_cache: [blocks, block_size, kv_heads, head_dim], one layer; all tokens' keys and values are in it.
        block_tables: [batch, width] int32, each sequence's blocks in order; entries past its last block are ignored.
        seq_lens: [batch] int32, tokens of each sequence, its queries included.
        query_start: [batch + 1] int32; rows query_start[b] .. query_start[b + 1] - 1 are the last tokens of sequence b.
        max_query_len: at least the queries of any sequence.
        scale: factor of the scores, usually head_dim ** -0.5.
        out: where to write, like q; allocated if None. Rows past query_start[batch] are not written.
        plan: of `plan_prefill` for these sequences, which all layers of one window share; made anew if None.
        window, softcap, sinks, slopes, scales: see `octavo_kernels.paged_decode`; each query has its own last `window`
            tokens, and distances of its own.
        causal: else each query sees the tokens behind it too, and in a window as many to either side (encoders).

    Returns:
        [tokens, q_heads, head_dim], in q's dtype.
    """
    if q.device.type == "cuda":
        if plan is not None and q.itemsize == 2:
            from octavo_kernels.paged_prefill import hopper

            assert causal
            assert isinstance(plan, hopper.HopperPrefillPlan)
            return hopper.paged_prefill(
                q, k_cache, v_cache, block_tables, seq_lens, query_start, scale, plan, out, scales
            )
        from octavo_kernels.paged_prefill import triton

        return triton.paged_prefill(
            q,
            k_cache,
            v_cache,
            block_tables,
            seq_lens,
            query_start,
            max_query_len,
            scale,
            out,
            window,
            softcap,
            sinks,
            slopes,
            scales,
            causal,
        )
    from octavo_kernels.paged_prefill import cpu

    assert plan is None or isinstance(plan, tuple)
    return cpu.paged_prefill(
        q,
        k_cache,
        v_cache,
        block_tables,
        seq_lens,
        query_start,
        max_query_len,
        scale,
        out,
        window,
        softcap,
        sinks,
        slopes,
        scales,
        plan,
        causal,
    )


def plan_prefill(
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    k_cache: Tensor,
    q_heads: int,
    lengths: npt.NDArray[np.int64],
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    causal: bool = True,
) -> "PrefillPlan | HopperPrefillPlan | None":
    """What a step's layers share: on a CPU which slots paged_prefill reads, and its masks; on a Hopper GPU, for long
    enough causal queries without window, softcap, sinks or slopes, its tiles; None where it computes that as it goes.
    Arguments as for paged_prefill; k_cache, sinks and slopes of any layer. lengths: [batch, 2], queries and all tokens
    of each sequence, on the host. On a GPU a plan serves queries of 16 bits, and is ignored for others."""
    if k_cache.device.type == "cuda":
        from octavo_kernels.paged_prefill import hopper

        is_plain = causal and window is None and softcap is None and sinks is None and slopes is None
        return hopper.plan(lengths, k_cache.device) if is_plain and hopper.fits(q_heads, k_cache) else None
    from octavo_kernels.paged_prefill import cpu

    return cpu.plan(block_tables, seq_lens, query_start, k_cache, window, causal)
