"""Which latents of a step are expanded to keys and values together, planned once for all layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.paged_prefill import plan_prefill
from octavo_runtime.layers.batch import PrefillInputs
from octavo_runtime.layers.expansion_bounds import heads_at_once, tokens_together

if TYPE_CHECKING:
    from octavo_kernels.paged_prefill.cpu import PrefillPlan
    from octavo_kernels.paged_prefill.hopper import HopperPrefillPlan


@dataclass(frozen=True)
class Expansion:
    """A run of sequences with several new tokens each. Their blocks, copied one behind another, are a small cache of
    their own, of which the tables speak.

    queries: the run's among all queries of such sequences. blocks: [blocks] int64, of the cache. heads: at once. The
    rest: see octavo_kernels.paged_prefill."""

    queries: slice
    blocks: Tensor
    block_tables: Tensor
    seq_lens: Tensor
    query_start: Tensor
    max_query_len: int
    heads: int
    plan: "PrefillPlan | HopperPrefillPlan | None"


def plan_expansions(
    prefill: PrefillInputs, layer_cache: Tensor, num_heads: int, head_dim: int, size: int
) -> tuple[Expansion, ...]:
    """layer_cache: of any layer, [block, slot, rank + rope]; size: see expanded_size."""
    block_size, device = layer_cache.shape[1], layer_cache.device
    counts = -(-prefill.lengths[:, 1] // block_size)
    starts = np.concatenate(([0], prefill.lengths[:, 0].cumsum()))
    # Attention asks of the expanded cache its type, its blocks' size and its heads' sizes.
    shape = layer_cache.new_empty(0, block_size, 1, head_dim)

    def send(array: npt.NDArray[np.int64], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)

    def expansion(run: slice) -> Expansion:
        of_run = counts[run]
        first = np.concatenate(([0], of_run.cumsum()))
        rows = np.repeat(np.arange(len(of_run)), of_run)
        columns = np.arange(first[-1]) - first[rows]
        tables = prefill.block_tables[0][run]
        blocks = tables[send(rows, torch.int64), send(columns, torch.int64)].long()
        block_tables = send(first[:-1, None] + np.arange(of_run.max()), torch.int32)
        seq_lens, lengths = prefill.seq_lens[run], prefill.lengths[run]
        query_start = send(starts[run.start : run.stop + 1] - starts[run.start], torch.int32)
        return Expansion(
            slice(int(starts[run.start]), int(starts[run.stop])),
            blocks,
            block_tables,
            seq_lens,
            query_start,
            int(lengths[:, 0].max()),
            heads_at_once(int(first[-1]) * block_size, size, num_heads),
            plan_prefill(block_tables, seq_lens, query_start, shape, num_heads, lengths),
        )

    return tuple(map(expansion, _runs(counts * block_size, tokens_together(size))))


def _runs(tokens: npt.NDArray[np.int64], most: int) -> Iterator[slice]:
    """Cuts sequences of so many tokens into runs of at most `most` tokens, or of one sequence."""
    ends, total = [0], 0
    for index, count in enumerate(tokens.tolist()):
        if total and total + count > most:
            ends.append(index)
            total = 0
        total += count
    yield from (slice(*ends_of_run) for ends_of_run in pairwise([*ends, len(tokens)]))
