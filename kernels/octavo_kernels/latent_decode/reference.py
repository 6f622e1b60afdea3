"""The oracle of latent_decode: one sequence after another, in float32."""

import torch
from torch import Tensor


def latent_decode(
    q: Tensor,
    cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    rank: int,
    out: Tensor | None = None,
) -> Tensor:
    """See `octavo_kernels.latent_decode`."""
    out = q.new_empty(*q.shape[:2], rank) if out is None else out
    block_size = cache.shape[1]
    for sequence, length in enumerate(seq_lens.tolist()):
        positions = torch.arange(length, device=q.device)
        blocks = block_tables[sequence, positions // block_size].long()
        keys = cache[blocks, positions % block_size].float()
        shares = (q[sequence].float() @ keys.T * scale).softmax(-1)
        out[sequence] = shares @ keys[:, :rank]
    return out
