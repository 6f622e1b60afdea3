"""The cases that every form of write_kv is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from octavo_kernels.comparison import largest_error
from octavo_kernels.eight_bits import spread_scales
from octavo_kernels.write_kv import reference

TOLERANCES = dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), 0.0)


@dataclass(frozen=True)
class Case:
    """`padding` of the tokens have slot -1; the blocks before the last `blocks` ones stay unused."""

    name: str
    tokens: int
    kv_heads: int
    head_dim: int
    block_size: int = 16
    padding: int = 0
    blocks: int = 16
    blocks_before: int = 0
    stored: torch.dtype | None = None  # of 8 bits, in the caches


TINY_CASES = (
    Case("one token", 1, 1, 16),
    Case("with padding", 9, 3, 32, block_size=8, padding=2),
    Case("padding alone", 2, 3, 32, padding=2),
    Case("fp8", 9, 3, 32, padding=2, stored=torch.float8_e4m3fn),
    Case("int8", 9, 3, 24, padding=1, stored=torch.int8),
)
CASES = (
    *TINY_CASES,
    Case("smollm2", 200, 3, 64, padding=7),
    Case("8B shape", 100, 8, 128, block_size=32),
    Case("8B shape, fp8", 10, 8, 128, stored=torch.float8_e4m3fn),
    Case("head of 80", 100, 8, 80, block_size=8),
    Case("no token", 0, 3, 64),
)
# More than 2**31 elements lie in front of the blocks in use: 4.3 GB of keys in bfloat16.
LARGE_CASES = (Case("64-bit offsets", 100, 8, 128, blocks_before=1 << 17),)


def error(
    form: Callable[..., None], case: Case, dtype: torch.dtype, device: str, computed: torch.dtype | None = None
) -> float:
    """Largest error of `form` against the oracle, over the blocks in use; keys and values come in `computed`, by
    default the caches' dtype."""
    generator = torch.Generator().manual_seed(0)
    # As in the fused output of the QKV projection: keys, values and one more head of each token lie side by side.
    fused = torch.randn(case.tokens, 2 * case.kv_heads + 1, case.head_dim, generator=generator).to(
        device, computed or dtype
    )
    k, v = fused[:, : case.kv_heads], fused[:, case.kv_heads : 2 * case.kv_heads]
    shape = (2, case.blocks_before + case.blocks, case.block_size, case.kv_heads, case.head_dim)
    first_slot = case.blocks_before * case.block_size
    slots = first_slot + torch.randperm(case.blocks * case.block_size, generator=generator)[: case.tokens]
    slots[: case.padding] = -1
    slots = slots.to(device)
    scales = () if case.stored is None else (spread_scales(case.kv_heads).to(device),)
    if scales:
        fused *= torch.logspace(-9, 8, case.head_dim, 2, device=device)  # from what is lost to what is too large
    caches = []
    for write in (form, reference.write_kv):
        cache = torch.zeros(shape, dtype=case.stored or dtype, device=device)
        write(k, v, cache[0], cache[1], slots, *scales)
        used = cache[:, case.blocks_before :]
        caches.append(used.float() if scales else used.clone())
    return largest_error(*caches)
