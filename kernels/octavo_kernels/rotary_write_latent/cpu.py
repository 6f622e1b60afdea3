"""rotary_write_latent for the CPU."""

import torch
from torch import Tensor

from octavo_kernels.native import TYPES, loop

_rotary = loop("rotary", "ipiiiiipp")


def rotary_write_latent(
    q: Tensor, latent: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor, cache: Tensor, slots: Tensor
) -> None:
    """See `octavo_kernels.rotary_write_latent`. The blocks of a cache must lie one behind another."""
    rows = torch.cat((latent, key), dim=-1)
    for heads in (q, rows[:, latent.shape[1] :].unsqueeze(1)):
        tokens, count, rope = heads.shape
        _rotary(TYPES[heads.dtype], heads, *heads.stride()[:2], tokens, count, rope, positions, cos_sin)
    padding = slots < 0
    if padding.any():
        rows, slots = rows[~padding], slots[~padding]
    cache.view(-1, cache.shape[-1])[slots] = rows
