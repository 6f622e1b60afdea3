"""The oracle of rotary_write_kv: one after the other."""

import torch
from torch import Tensor

from octavo_kernels.write_kv.reference import write_kv


def rotary_write_kv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
    scales: Tensor | None = None,
) -> None:
    """See `octavo_kernels.rotary_write_kv`."""
    cos, sin = cos_sin[positions].unsqueeze(1).chunk(2, dim=-1)
    for heads in (q[..., : cos_sin.shape[1]], k[..., : cos_sin.shape[1]]):
        first, second = heads.float().chunk(2, dim=-1)
        heads.copy_(torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1))
    write_kv(k, v, k_cache, v_cache, slots, scales)
