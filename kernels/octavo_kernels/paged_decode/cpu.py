"""paged_decode for the CPU: a sequence's blocks are read where they lie, once for the keys, once for the values."""

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.native import CACHE_TYPES, TYPES, loop, workers

# Below this many tokens in all, starting the other threads takes longer than they save.
_FEW_TOKENS = 64

_paged_decode = loop("paged_decode", "iipiippiiiidpiipidppp")


@dataclass(frozen=True)
class DecodePlan:
    """What all layers of a step share."""

    words: Tensor  # [8] int64, cpu.hpp's Plan
    named: tuple[Tensor, ...] = ()  # the tensors whose addresses it holds


def plan(block_tables: Tensor, seq_lens: Tensor, k_cache: Tensor, q_heads: int) -> DecodePlan:
    """See `octavo_kernels.paged_decode`."""
    _, block_size, kv_heads, _ = k_cache.shape
    sequences, threads = len(seq_lens), workers()
    longest = -(-int(seq_lens.max()) // block_size) * block_size
    named = block_tables, seq_lens, torch.empty(sequences, q_heads, longest)
    words = [
        *(tensor.data_ptr() for tensor in named), sequences, block_tables.stride(0), longest,
        1 if sequences >= threads else kv_heads, threads if int(seq_lens.sum()) > _FEW_TOKENS else 1,
    ]  # fmt: skip
    return DecodePlan(torch.tensor(words), named)


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    scales: Tensor | None = None,
    shared: DecodePlan | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_decode`. The blocks of a cache must lie one behind another."""
    shared = plan(block_tables, seq_lens, k_cache, q.shape[1]) if shared is None else shared
    out = torch.empty_like(q, memory_format=torch.contiguous_format) if out is None else out
    _paged_decode(
        TYPES[q.dtype], CACHE_TYPES[k_cache.dtype], q, *q.stride()[:2], k_cache, v_cache, k_cache.shape[1], q.shape[1],
        *k_cache.shape[2:], scale, out, *out.stride()[:2], shared.words, window or 0, softcap or 0.0,
        sinks, slopes, scales,
    )  # fmt: skip
    return out
