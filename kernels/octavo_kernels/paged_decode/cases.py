"""The cases that every form of paged_decode is checked on, and a paged KV cache to check them with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.eight_bits import in_eight_bits, spread_scales
from octavo_kernels.paged_decode import reference

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass(frozen=True)
class Case:
    """One batch; `blocks_before` unused blocks lie in front of those in use."""

    name: str
    seq_lens: tuple[int, ...]
    q_heads: int
    kv_heads: int
    head_dim: int
    block_size: int = 16
    blocks_before: int = 0
    window: int | None = None
    softcap: float | None = None
    has_sinks: bool = False
    has_slopes: bool = False
    stored: torch.dtype | None = None  # of 8 bits, in the caches
    common: tuple[int, ...] = ()  # so many first blocks of each sequence are those of the sequence in front

    @property
    def options(self) -> dict[str, Any]:
        """What a form is called with beyond the plain arguments; forms that have no more of them take plain cases."""
        sinks = torch.linspace(-1, 4, self.q_heads) if self.has_sinks else None
        slopes = torch.linspace(0.6, 0.01, self.q_heads) if self.has_slopes else None
        scales = None if self.stored is None else spread_scales(self.kv_heads)
        named = {"window": self.window, "softcap": self.softcap, "sinks": sinks, "slopes": slopes, "scales": scales}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def suits_hopper(self) -> bool:
        """Whether the form for Hopper takes it, with queries of 16 bits."""
        fits = self.q_heads // self.kv_heads <= 16 and self.head_dim <= 128
        return fits and not self.options.keys() - {"scales"} and (self.stored is None or self.head_dim >= 32)


# Small enough for Triton's interpreter. With a head of 16 a tile has 128 positions: 300 tokens are split.
TINY_CASES = (
    Case("one token", (1,), 2, 1, 16),
    Case("ragged", (1, 16, 17, 31, 300), 4, 2, 16),
    Case("group of three", (5, 40), 9, 3, 32, block_size=8),
    Case("padded head", (33, 8), 2, 2, 48, block_size=8),
    Case("window", (1, 19, 20, 21, 129, 300), 7, 1, 16, window=20),
    Case("window of one", (3, 130), 2, 1, 16, window=1),
    Case("softcap", (40, 130), 4, 2, 16, softcap=0.5),
    Case("window and softcap", (5, 150), 4, 2, 16, block_size=8, window=33, softcap=0.7),
    Case("sinks", (1, 17, 300), 6, 2, 16, has_sinks=True),
    Case("window and sinks", (5, 150), 4, 2, 16, block_size=8, window=33, has_sinks=True),
    Case("ALiBi", (1, 17, 300), 6, 2, 16, has_slopes=True),
    Case("all at once", (5, 150), 6, 2, 16, window=33, softcap=0.7, has_sinks=True, has_slopes=True),
    Case("fp8", (1, 17, 300), 6, 2, 32, stored=torch.float8_e4m3fn),
    Case("int8, padded head", (33, 8), 2, 2, 48, block_size=8, stored=torch.int8),
)
CASES = (
    *TINY_CASES,
    Case("smollm2", (1, 16, 100, 128, 129), 9, 3, 64),
    Case("long", (2000, 1), 9, 3, 64, block_size=32),
    Case("equal lengths", (96, 96, 96), 8, 2, 64),
    Case("many sequences", tuple(range(1, 1280, 80)), 9, 3, 64),
    Case("head of 80", (77, 300), 8, 8, 80),
    Case("head of 96", (77, 300), 8, 2, 96, block_size=64),
    Case("8B shape", (513, 64, 1000), 32, 8, 128),
    Case("group of 7", (100, 333), 14, 2, 64),
    Case("one KV head", (100, 333), 71, 1, 64),
    Case("head of 256", (100, 333), 8, 1, 256, block_size=128),
    Case("8B shape, window", (513, 64, 1000), 32, 8, 128, window=100),
    Case("split window", (2000, 1, 700), 9, 3, 64, window=600),
    Case("8B shape, sinks", (513, 64, 1000), 64, 8, 64, has_sinks=True),
    Case("BLOOM shape", (513, 64, 2000), 16, 16, 64, has_slopes=True),
    Case("8B shape, fp8", (513, 64, 1000), 32, 8, 128, stored=torch.float8_e4m3fn),
    Case("8B shape, int8", (513, 64, 1000), 32, 8, 128, stored=torch.int8),
    Case("head of 80, fp8", (77, 300), 8, 8, 80, stored=torch.float8_e4m3fn),
    Case("many sequences, int8", tuple(range(1, 1280, 80)), 9, 3, 64, stored=torch.int8),
    Case("8B shape, int8, window", (513, 64, 1000), 32, 8, 128, window=100, stored=torch.int8),
    Case("Gemma 2 shape", (1, 100, 333), 8, 4, 256, window=128, softcap=50.0),
)
# For a GPU's forms: the last sequences are padding. Small enough for the interpreter too.
PADDED_CASES = (
    Case("padding", (40, 1, 129, 0, 0), 6, 2, 32),
    Case("many with padding", (1, 70, 300, 16, 64, 65, 2, 3, 130, 17, 5, 0, 0), 8, 2, 16, block_size=32),
    Case("padding, fp8", (40, 1, 129, 0, 0), 6, 2, 32, stored=torch.float8_e4m3fn),
)
# Sequences that follow each other begin with the same blocks.
COMMON_CASES = (
    Case("in common", (300, 290, 310, 5), 8, 2, 16, common=(0, 17, 17, 0)),
    Case("all but one tile in common", (129, 144, 130), 4, 2, 16, common=(0, 8, 8)),
    Case("nothing of their own", (128, 128, 128), 4, 1, 16, common=(0, 8, 8)),
    Case("two prefixes", (300, 200, 299, 40, 300, 290, 41, 42, 90), 4, 1, 32, common=(0, 12, 12, 2, 2, 18, 0, 2, 2)),
    Case("a pack of five", (290, 300, 280, 270, 5, 2, 64, 64), 3, 1, 16, common=(0, 16, 16, 15, 0, 0, 0, 2)),
    Case("in common, fp8", (300, 290, 310, 5), 8, 2, 32, common=(0, 17, 17, 0), stored=torch.float8_e4m3fn),
    Case("guessed tokens", (126, 127, 128, 129, 130, 40, 41, 42), 8, 2, 16, common=(0, 8, 8, 8, 9, 0, 3, 3)),
    Case("a pack of 16", (290,) * 11 + (300, 0), 2, 2, 32, common=(0,) + (17,) * 11 + (0,)),
)
# More than 2**31 elements lie in front of the blocks in use: 4.3 GB of keys in bfloat16.
LARGE_CASES = (Case("64-bit offsets", (500, 33), 32, 8, 128, blocks_before=1 << 17),)


def options_on(case: Case, device: str) -> dict[str, Any]:
    """The case's options for tensors on a device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in case.options.items()}


def paged_cache(
    case: Case, dtype: torch.dtype, device: str, generator: torch.Generator, queries: Sequence[int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """K cache, V cache and block tables of sequences with `case.seq_lens` tokens, of which the last `queries` attend,
    by default one.

    Blocks are handed out in random order, every slot without a token is NaN, and table entries past a sequence's last
    block, and those wholly behind the window, name the first block, which belongs to nobody. A block that several
    sequences hold has the last one's tokens.
    """
    widths = [-(-length // case.block_size) for length in case.seq_lens]
    first_block = case.blocks_before + 1
    shuffled = torch.split(first_block + torch.randperm(sum(widths), generator=generator), widths)
    shape = (2, first_block + sum(widths), case.block_size, case.kv_heads, case.head_dim)
    cache = torch.full(shape, torch.nan, dtype=dtype, device=device)
    block_tables = torch.zeros(len(widths), max(widths) + 1, dtype=torch.int32)
    for sequence, (length, blocks) in enumerate(zip(case.seq_lens, shuffled, strict=True)):
        taken = case.common[sequence] if case.common else 0
        blocks = torch.cat([block_tables[sequence - 1, :taken], blocks[taken:]])
        block_tables[sequence, : len(blocks)] = blocks
        if case.window is not None:
            outgrown = max(0, length - (1 if queries is None else queries[sequence]) - case.window + 1)
            block_tables[sequence, : outgrown // case.block_size] = 0
        position = torch.arange(length)
        tokens = torch.randn(2, length, case.kv_heads, case.head_dim, generator=generator)
        cache[:, blocks[position // case.block_size], position % case.block_size] = tokens.to(cache)
    if case.stored is not None:
        scales = spread_scales(case.kv_heads).to(device)
        cache = torch.stack([in_eight_bits(*each, case.stored) for each in zip(cache, scales, strict=True)])
    return cache[0], cache[1], block_tables.to(device)


def error(
    form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str, computed: torch.dtype | None = None
) -> float:
    """Largest error of `form` against the oracle, over the sequences that are no padding; queries come in `computed`,
    by default the caches' dtype."""
    generator = torch.Generator().manual_seed(0)
    k_cache, v_cache, block_tables = paged_cache(case, dtype, device, generator)
    # As in the fused output of the QKV projection: other heads lie between two tokens.
    fused = torch.randn(len(case.seq_lens), case.q_heads + 2, case.head_dim, generator=generator)
    q = fused.to(device, computed or dtype)[:, : case.q_heads]
    seq_lens = torch.tensor(case.seq_lens, dtype=torch.int32, device=device)
    scale = case.head_dim**-0.5
    options = options_on(case, device)
    expected = reference.paged_decode(q, k_cache, v_cache, block_tables, seq_lens, scale, **options)
    out = torch.full_like(q, torch.nan)
    form(q, k_cache, v_cache, block_tables, seq_lens, scale, out, **options)
    return largest_error(out[seq_lens > 0], expected[seq_lens > 0])
