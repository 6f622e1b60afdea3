"""The cases that every form of latent_decode is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.latent_decode import reference

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass(frozen=True)
class Case:
    """One batch; `blocks_before` unused blocks lie in front of those in use."""

    name: str
    seq_lens: tuple[int, ...]
    heads: int
    rank: int
    rope: int
    block_size: int = 16
    blocks_before: int = 0


# Small enough for Triton's interpreter; a tile has at most 32 positions, so 300 tokens are split.
TINY_CASES = (
    Case("one token", (1,), 2, 16, 8),
    Case("ragged", (1, 16, 17, 31, 300), 4, 32, 16),
    Case("odd rank", (5, 40), 3, 24, 8, block_size=8),
    Case("more heads than a program takes", (33, 70), 35, 16, 16),
)
CASES = (
    *TINY_CASES,
    Case("long", (2000, 1), 7, 96, 32, block_size=32),
    Case("many sequences", tuple(range(1, 1280, 80)), 9, 64, 32),
    Case("DeepSeek V2-Lite shape", (513, 64, 1000), 16, 512, 64),
    Case("DeepSeek V3 shape", (100, 333), 128, 512, 64),
    Case("Kimi K2 shape, large blocks", (700, 1, 129), 64, 512, 64, block_size=128),
    Case("GLM 4.7 Flash shape", (100, 333), 20, 512, 64),
    Case("MiniCPM 3 shape", (77, 300), 40, 256, 32),
)
# For a GPU's forms: the last sequences are padding. Small enough for the interpreter too.
PADDED_CASES = (Case("padding", (40, 1, 129, 0, 0), 6, 32, 16),)
# More than 2**31 elements lie in front of the blocks in use: 4.8 GB of them in bfloat16.
LARGE_CASES = (Case("64-bit offsets", (500, 33), 16, 512, 64, blocks_before=1 << 18),)


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle, over the sequences that are no padding. Blocks are handed out in
    random order, every slot without a token is NaN, and table entries past a sequence's last block name the first one,
    which belongs to nobody."""
    generator = torch.Generator().manual_seed(0)
    widths = [-(-length // case.block_size) for length in case.seq_lens]
    first_block = case.blocks_before + 1
    shuffled = torch.split(first_block + torch.randperm(sum(widths), generator=generator), widths)
    shape = first_block + sum(widths), case.block_size, case.rank + case.rope
    cache = torch.full(shape, torch.nan, dtype=dtype, device=device)
    block_tables = torch.zeros(len(widths), max(widths) + 1, dtype=torch.int32)
    for sequence, (length, blocks) in enumerate(zip(case.seq_lens, shuffled, strict=True)):
        block_tables[sequence, : len(blocks)] = blocks
        position = torch.arange(length)
        tokens = torch.randn(length, case.rank + case.rope, generator=generator)
        cache[blocks[position // case.block_size], position % case.block_size] = tokens.to(cache)
    # Beside each other in one tensor, with something between two tokens.
    fused = torch.randn(len(case.seq_lens), case.heads + 1, case.rank + case.rope, generator=generator)
    q = fused.to(device, dtype)[:, : case.heads]
    seq_lens = torch.tensor(case.seq_lens, dtype=torch.int32, device=device)
    scale, tables = (case.rank + case.rope) ** -0.5, block_tables.to(device)
    expected = reference.latent_decode(q, cache, tables, seq_lens, scale, case.rank)
    out = torch.full_like(expected, torch.nan)
    form(q, cache, tables, seq_lens, scale, case.rank, out)
    return largest_error(out[seq_lens > 0], expected[seq_lens > 0])
