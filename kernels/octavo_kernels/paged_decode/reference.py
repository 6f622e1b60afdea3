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
) -> Tensor:
    """See `octavo_kernels.paged_decode`."""
    out = torch.empty_like(q) if out is None else out
    _, block_size, kv_heads, _ = k_cache.shape
    group = q.shape[1] // kv_heads
    for sequence, length in enumerate(seq_lens.tolist()):
        positions = torch.arange(max(0, length - (window or length)), length, device=q.device)
        blocks = block_tables[sequence, positions // block_size].long()
        keys = k_cache[blocks, positions % block_size].float().repeat_interleave(group, dim=1)
        values = v_cache[blocks, positions % block_size].float().repeat_interleave(group, dim=1)
        scores = torch.einsum("hd,khd->hk", q[sequence].float(), keys) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        out[sequence] = torch.einsum("hk,khd->hd", scores.softmax(dim=-1), values)
    return out
