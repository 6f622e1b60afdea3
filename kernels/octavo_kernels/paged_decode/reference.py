"""The oracle of paged_decode: one sequence after another, in float32."""

import torch
from torch import Tensor


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
) -> Tensor:
    """See `octavo_kernels.paged_decode`."""
    out = torch.empty_like(q) if out is None else out
    _, block_size, kv_heads, _ = k_cache.shape
    group = q.shape[1] // kv_heads
    for sequence, length in enumerate(seq_lens.tolist()):
        positions = torch.arange(max(0, length - (window or length)), length, device=q.device)
        blocks = block_tables[sequence, positions // block_size].long()
        keys, values = (
            each.repeat_interleave(group, dim=1)
            for each in read(k_cache, v_cache, blocks, positions % block_size, scales)
        )
        scores = torch.einsum("hd,khd->hk", q[sequence].float(), keys) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if slopes is not None:
            scores = scores + slopes.view(-1, 1) * (positions - (length - 1))
        out[sequence] = torch.einsum("hk,khd->hd", softmax(scores, sinks), values)
    return out


def read(k_cache: Tensor, v_cache: Tensor, blocks: Tensor, places: Tensor, scales: Tensor | None) -> list[Tensor]:
    """The keys and the values [tokens, kv_heads, head_dim] float32 in those places of those blocks, both [tokens]."""
    found = []
    for part, cache in enumerate((k_cache, v_cache)):
        # torch indexes no FP8
        stored = (
            cache.view(torch.int8)[blocks, places].view(cache.dtype) if scales is not None else cache[blocks, places]
        )
        found.append(stored.float() if scales is None else stored.float() * scales[part].unsqueeze(-1))
    return found


def softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """The shares of the keys in the softmax of their scores [heads, ..., keys] and of a sink [heads]."""
    if sinks is None:
        return scores.softmax(dim=-1)
    sink = sinks.view(-1, *[1] * (scores.dim() - 1)).expand(*scores.shape[:-1], 1)
    return torch.cat((scores, sink), dim=-1).softmax(dim=-1)[..., :-1]
