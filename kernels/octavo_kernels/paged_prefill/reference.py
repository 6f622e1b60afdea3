"""The oracle of paged_prefill: one sequence after another, in float32."""

import torch
from torch import Tensor


def paged_prefill(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    max_query_len: int,  # noqa: ARG001 - the other forms size their launch by it
    scale: float,
    out: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`."""
    out = torch.empty_like(q) if out is None else out
    _, block_size, kv_heads, _ = k_cache.shape
    group = q.shape[1] // kv_heads
    starts = query_start.tolist()
    for sequence, length in enumerate(seq_lens.tolist()):
        first, last = starts[sequence], starts[sequence + 1]
        positions = torch.arange(length, device=q.device)
        blocks = block_tables[sequence, positions // block_size].long()
        keys = k_cache[blocks, positions % block_size].float().repeat_interleave(group, dim=1)
        values = v_cache[blocks, positions % block_size].float().repeat_interleave(group, dim=1)
        scores = torch.einsum("qhd,khd->hqk", q[first:last].float(), keys) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        query_positions = positions[length - (last - first) :]
        distance = query_positions.unsqueeze(1) - positions
        scores = scores.masked_fill((distance < 0) | (distance >= (window or length)), -torch.inf)
        out[first:last] = torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), values)
    return out
