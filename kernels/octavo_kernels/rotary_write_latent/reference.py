"""The oracle of rotary_write_latent: one after the other."""

import torch
from torch import Tensor


def rotary_write_latent(
    q: Tensor, latent: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor, cache: Tensor, slots: Tensor
) -> None:
    """See `octavo_kernels.rotary_write_latent`."""
    cos, sin = cos_sin[positions].unsqueeze(1).chunk(2, dim=-1)

    def turned(heads: Tensor) -> Tensor:
        first, second = heads.float().chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(heads.dtype)

    q.copy_(turned(q))
    rows = torch.cat((latent, turned(key.unsqueeze(1)).squeeze(1)), dim=-1)
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            cache[slot // cache.shape[1], slot % cache.shape[1]] = rows[token]
