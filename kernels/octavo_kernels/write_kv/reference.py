"""The oracle of write_kv: one token after another."""

import torch
from torch import Tensor

from octavo_kernels.eight_bits import in_eight_bits


def write_kv(
    k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor, scales: Tensor | None = None
) -> None:
    """See `octavo_kernels.write_kv`."""
    block_size = k_cache.shape[1]
    if scales is not None:
        k, v = (in_eight_bits(each, scale, k_cache.dtype) for each, scale in zip((k, v), scales, strict=True))
        # torch indexes no FP8
        k, v, k_cache, v_cache = (each.view(torch.int8) for each in (k, v, k_cache, v_cache))
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            k_cache[slot // block_size, slot % block_size] = k[token]
            v_cache[slot // block_size, slot % block_size] = v[token]
