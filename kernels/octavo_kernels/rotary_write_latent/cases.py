"""The cases that every form of rotary_write_latent is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from octavo_kernels.comparison import largest_error
from octavo_kernels.rotary_write_latent import reference

# 16-bit: one unit in the last place, for forms may contract multiplications and additions differently.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
MAX_POSITION = 512
_BLOCKS = 16


@dataclass(frozen=True)
class Case:
    """Of a head's entries the first `plain` are not turned. `padding` of the tokens have slot -1; the blocks before the
    last 16 stay unused."""

    name: str
    tokens: int
    heads: int
    rank: int
    rope: int
    plain: int
    block_size: int = 16
    padding: int = 0
    blocks_before: int = 0


TINY_CASES = (
    Case("one token", 1, 2, 16, 8, 16),
    Case("odd sizes", 3, 7, 24, 12, 10, padding=1, block_size=8),
    Case("padding alone", 2, 4, 16, 16, 16, padding=2),
)
CASES = (
    *TINY_CASES,
    Case("no token", 0, 4, 16, 16, 16),
    Case("DeepSeek V2-Lite shape", 40, 16, 512, 64, 128, padding=7),
    Case("DeepSeek V3 shape", 17, 128, 512, 64, 128, block_size=32),
    Case("MiniCPM 3 shape", 17, 40, 256, 32, 64),
)
# More than 2**31 elements lie in front of the blocks in use: 4.8 GB of them in bfloat16.
LARGE_CASES = (Case("64-bit offsets", 100, 16, 512, 64, 128, blocks_before=1 << 18),)


def error(form: Callable[..., None], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle, over queries and the blocks in use, which are NaN before."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(MAX_POSITION, case.rope // 2, generator=generator) * 6.3
    cos_sin = torch.cat((angles.cos(), angles.sin()), dim=-1).to(device)
    positions = torch.randint(MAX_POSITION, (case.tokens,), generator=generator).to(device)
    queries = torch.randn(case.tokens, case.heads, case.plain + case.rope, generator=generator).to(device, dtype)
    # Latents come from a norm, keys lie behind what it read.
    latent = torch.randn(case.tokens, case.rank, generator=generator).to(device, dtype)
    key = torch.randn(case.tokens, case.rank + case.rope, generator=generator).to(device, dtype)[:, case.rank :]
    slots = torch.randperm(_BLOCKS * case.block_size, generator=generator)[: case.tokens]
    slots += case.blocks_before * case.block_size
    slots[: case.padding] = -1
    shape = case.blocks_before + _BLOCKS, case.block_size, case.rank + case.rope
    results = []
    for rotate in (form, reference.rotary_write_latent):
        q = queries.clone()
        cache = torch.full(shape, torch.nan, dtype=dtype, device=device)
        rotate(q[..., case.plain :], latent, key, positions, cos_sin, cache, slots.to(device))
        used = cache[case.blocks_before :].float()
        results.append(torch.cat((q.float().flatten(), used.nan_to_num(nan=1e3).flatten())))
    return largest_error(*results)
