"""The oracle of paged_prefill: one sequence after another, in float32."""

import torch
from torch import Tensor

from octavo_kernels.paged_decode.reference import read, softmax


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
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    scales: Tensor | None = None,
    causal: bool = True,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`."""
    out = torch.empty_like(q) if out is None else out
    _, block_size, kv_heads, _ = k_cache.shape
    group = q.shape[1] // kv_heads
    starts = query_start.tolist()
    for sequence, length in enumerate(seq_lens.tolist()):
        first, last = starts[sequence], starts[sequence + 1]
        count = last - first
        positions = torch.arange(max(0, length - count + 1 - (window or length)), length, device=q.device)
        blocks = block_tables[sequence, positions // block_size].long()
        keys, values = (
            each.repeat_interleave(group, dim=1)
            for each in read(k_cache, v_cache, blocks, positions % block_size, scales)
        )
        scores = torch.einsum("qhd,khd->hqk", q[first:last].float(), keys) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        query_positions = positions[len(positions) - count :]
        distance = positions - query_positions.unsqueeze(1)
        if slopes is not None:
            scores = scores + slopes.view(-1, 1, 1) * distance
        hidden = distance.abs() >= (window or length)
        if causal:
            hidden |= distance > 0
        scores = scores.masked_fill(hidden, -torch.inf)
        out[first:last] = torch.einsum("hqk,khd->qhd", softmax(scores, sinks), values)
    return out
