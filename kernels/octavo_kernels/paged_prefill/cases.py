"""The cases that every form of paged_prefill is checked on: paged_decode's batches, with more queries."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.paged_decode.cases import Case as Batch
from octavo_kernels.paged_decode.cases import options_on, paged_cache
from octavo_kernels.paged_prefill import reference

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass(frozen=True)
class Case:
    """A batch, and how many of each sequence's last tokens are queries."""

    batch: Batch
    query_lens: tuple[int, ...]
    causal: bool = True

    @property
    def name(self) -> str:
        return self.batch.name


# Small enough for Triton's interpreter. With a head of 16 a tile has 128 positions and 128 query rows.
TINY_CASES = (
    Case(Batch("one token", (1,), 2, 1, 16), (1,)),
    Case(Batch("ragged prompts", (1, 16, 17, 33), 4, 2, 16), (1, 16, 17, 33)),
    Case(Batch("chunks", (200, 48, 17), 3, 1, 16), (60, 16, 1)),
    Case(Batch("group of three", (20, 24), 9, 3, 32, block_size=8), (20, 5)),
    Case(Batch("padded head", (19, 8), 2, 2, 48, block_size=8), (19, 3)),
    Case(Batch("window", (33, 200, 17, 150), 7, 1, 16, window=20), (33, 60, 1, 130)),
    Case(Batch("window of one", (40, 3), 2, 1, 16, window=1), (40, 2)),
    Case(Batch("softcap", (40, 130), 4, 2, 16, softcap=0.5), (40, 30)),
    Case(Batch("window and softcap", (50, 150), 4, 2, 16, block_size=8, window=33, softcap=0.7), (50, 40)),
    Case(Batch("sinks", (40, 130), 6, 2, 16, has_sinks=True), (40, 30)),
    Case(Batch("window and sinks", (50, 150), 4, 2, 16, block_size=8, window=33, has_sinks=True), (50, 40)),
    Case(Batch("ALiBi", (40, 130), 6, 2, 16, has_slopes=True), (40, 30)),
    Case(Batch("all at once", (50, 150), 4, 2, 16, window=33, softcap=0.7, has_sinks=True, has_slopes=True), (50, 40)),
    Case(Batch("encoder", (33, 1, 150, 130), 4, 4, 16, block_size=1), (33, 1, 150, 130), causal=False),
    Case(Batch("encoder, window", (33, 150, 5), 2, 2, 16, block_size=1, window=9), (33, 150, 5), causal=False),
    Case(Batch("not causal, sinks", (40, 130), 6, 2, 16, has_sinks=True), (40, 30), causal=False),
    Case(Batch("fp8", (20, 130), 4, 2, 16, stored=torch.float8_e4m3fn), (20, 30)),
    Case(Batch("int8, window", (33, 100), 3, 1, 16, window=20, stored=torch.int8), (33, 60)),
)
CASES = (
    *TINY_CASES,
    Case(Batch("smollm2", (1, 16, 100, 128, 129), 9, 3, 64), (1, 16, 100, 128, 129)),
    Case(Batch("smollm2 chunk beside decode", (700, 40, 300), 9, 3, 64), (256, 1, 1)),
    Case(Batch("decode only", (70, 40, 300), 9, 3, 64), (1, 1, 1)),
    Case(Batch("head of 80", (77, 300), 8, 8, 80), (77, 100)),
    Case(Batch("head of 96", (77, 300), 8, 2, 96, block_size=64), (77, 100)),
    Case(Batch("8B shape", (513, 64, 1000), 32, 8, 128), (513, 5, 128)),
    Case(Batch("8B shape, ragged", (1, 300, 128, 999, 513, 2048), 32, 8, 128), (1, 5, 128, 200, 513, 64)),
    Case(Batch("8B shape, blocks of 64", (700, 129), 8, 2, 128, block_size=64), (700, 129)),
    Case(Batch("group of 7", (100, 333), 14, 2, 64), (100, 33)),
    Case(Batch("one KV head", (100, 133), 71, 1, 64), (100, 33)),
    Case(Batch("head of 256", (100, 333), 8, 1, 256, block_size=128), (100, 33)),
    Case(Batch("8B shape, window", (513, 64, 1000), 32, 8, 128, window=100), (513, 5, 128)),
    Case(Batch("8B shape, sinks", (513, 64, 1000), 64, 8, 64, has_sinks=True), (513, 5, 128)),
    Case(Batch("BLOOM shape", (513, 64, 1000), 16, 16, 64, has_slopes=True), (513, 5, 128)),
    Case(Batch("BERT shape", (512, 64, 333), 12, 12, 64, block_size=1), (512, 64, 333), causal=False),
    Case(Batch("ModernBERT shape", (700, 64), 12, 12, 64, block_size=1, window=65), (700, 64), causal=False),
    Case(Batch("8B shape, fp8", (513, 64), 32, 8, 128, stored=torch.float8_e4m3fn), (513, 5)),
    Case(Batch("8B shape, ragged, fp8", (1, 300, 999, 2048), 32, 8, 128, stored=torch.float8_e4m3fn), (1, 5, 200, 64)),
    Case(Batch("8B shape, blocks of 64, int8", (700, 129), 8, 2, 128, 64, stored=torch.int8), (700, 129)),
    Case(Batch("Gemma 2 shape", (200, 333), 8, 4, 256, window=128, softcap=50.0), (200, 33)),
)
# More than 2**31 elements lie in front of the blocks in use: 4.3 GB of keys in bfloat16.
LARGE_CASES = (Case(Batch("64-bit offsets", (500, 33), 32, 8, 128, blocks_before=1 << 17), (100, 33)),)


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle."""
    generator = torch.Generator().manual_seed(0)
    k_cache, v_cache, block_tables = paged_cache(case.batch, dtype, device, generator, case.query_lens)
    # As in the fused output of the QKV projection: other heads lie between two tokens.
    fused = torch.randn(sum(case.query_lens), case.batch.q_heads + 2, case.batch.head_dim, generator=generator)
    q = fused.to(device, dtype)[:, : case.batch.q_heads]
    seq_lens = torch.tensor(case.batch.seq_lens, dtype=torch.int32, device=device)
    query_start = torch.tensor([0, *accumulate(case.query_lens)], dtype=torch.int32, device=device)
    scale = case.batch.head_dim**-0.5
    arguments = (q, k_cache, v_cache, block_tables, seq_lens, query_start, max(case.query_lens), scale)
    options = {**options_on(case.batch, device), "causal": case.causal}
    expected = reference.paged_prefill(*arguments, **options)
    out = torch.full(q.shape, torch.nan, dtype=dtype, device=device)
    form(*arguments, out, **options)
    return largest_error(out, expected)
