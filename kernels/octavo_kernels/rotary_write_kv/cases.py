"""The cases that every form of rotary_write_kv is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from octavo_kernels.comparison import largest_error
from octavo_kernels.eight_bits import spread_scales
from octavo_kernels.rotary_write_kv import reference

# 16-bit: one unit in the last place, for forms may contract multiplications and additions differently.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
MAX_POSITION = 512
_BLOCKS = 16


@dataclass(frozen=True)
class Case:
    """`fused`: queries, keys and values lie side by side in one tensor; otherwise each is a tensor of its own.
    `padding` of the tokens have slot -1; the blocks before the last 16 stay unused."""

    name: str
    tokens: int
    q_heads: int
    kv_heads: int
    head_dim: int
    fused: bool = True
    rotated: int | None = None  # entries of a head; None: all
    block_size: int = 16
    padding: int = 0
    blocks_before: int = 0
    stored: torch.dtype | None = None  # of 8 bits, in the caches; then nothing is turned, which rounds to the last bit


TINY_CASES = (
    Case("one token", 1, 2, 1, 16),
    Case("group of three", 3, 9, 3, 16, padding=1),
    Case("padded head", 2, 2, 2, 48),
    Case("apart", 2, 4, 2, 16, fused=False, block_size=8),
    Case("part of a head", 3, 3, 1, 32, rotated=24),
    Case("padding alone", 2, 4, 2, 16, padding=2),
    Case("fp8", 3, 6, 2, 32, rotated=24, stored=torch.float8_e4m3fn),
    Case("int8", 2, 2, 2, 48, stored=torch.int8),
    Case("many tokens, part of a head", 66, 9, 3, 32, rotated=24, padding=2),
    Case("many tokens, int8", 66, 6, 3, 48, stored=torch.int8),
)
CASES = (
    *TINY_CASES,
    Case("smollm2", 40, 9, 3, 64, padding=7),
    Case("8B shape", 17, 32, 8, 128, block_size=32),
    Case("8B shape, int8", 17, 32, 8, 128, stored=torch.int8),
    Case("8B shape, many tokens", 130, 32, 8, 128, padding=3),
    Case("head of 80", 17, 8, 8, 80, block_size=8),
    Case("8B shape apart", 17, 32, 8, 128, fused=False),
    Case("no token", 0, 9, 3, 64),
    Case("GLM shape", 17, 32, 2, 128, rotated=64),
)
# More than 2**31 elements lie in front of the blocks in use: 4.3 GB of keys in bfloat16.
LARGE_CASES = (Case("64-bit offsets", 100, 32, 8, 128, blocks_before=1 << 17),)


def error(
    form: Callable[..., None], case: Case, dtype: torch.dtype, device: str, cached: torch.dtype | None = None
) -> float:
    """Largest error of `form` against the oracle, over queries, values and the blocks in use. cached: the caches'
    dtype, by default that of the heads."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(MAX_POSITION, (case.rotated or case.head_dim) // 2, generator=generator) * 6.3
    angles *= case.stored is None
    cos_sin = torch.cat((angles.cos(), angles.sin()), dim=-1).to(device)
    positions = torch.randint(MAX_POSITION, (case.tokens,), generator=generator).to(device)
    counts = [case.q_heads, case.kv_heads, case.kv_heads]
    qkv = torch.randn(case.tokens, sum(counts), case.head_dim, generator=generator).to(device, dtype)
    slots = torch.randperm(_BLOCKS * case.block_size, generator=generator)[: case.tokens]
    slots += case.blocks_before * case.block_size
    slots[: case.padding] = -1
    slots = slots.to(device)
    shape = (2, case.blocks_before + _BLOCKS, case.block_size, case.kv_heads, case.head_dim)
    scales = () if case.stored is None else (spread_scales(case.kv_heads).to(device),)
    results = []
    for rotate in (form, reference.rotary_write_kv):
        q, k, v = torch.split(qkv.clone(), counts, dim=1)
        if not case.fused:
            q, k, v = q.clone(), k.clone(), v.clone()
        cache = torch.zeros(shape, dtype=case.stored or cached or dtype, device=device)
        rotate(q, k, v, positions, cos_sin, cache[0], cache[1], slots, *scales)
        used = cache[:, case.blocks_before :].float()
        results.append(torch.cat([each.float().flatten() for each in (q, v, used)]))
    return largest_error(*results)
