"""The pairs of a token and an expert in the order of the experts, cut into blocks of rows of one expert each.

Which rows a block has is worked out on the device. A grid has room for the most blocks that the pairs could fill;
programs without a block end at once."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last

CHUNK = 1024  # pairs that are looked at together


class Blocks(NamedTuple):
    """The blocks of rows, int32."""

    table: Tensor  # [most, 3]: the expert, the first row, and the row behind the last
    number: Tensor  # [1]: how many there are


@triton.jit(do_not_specialize=["pairs"])
def count_kernel(counts, ids, pairs, CHUNK: tl.constexpr, DEPENDENT: tl.constexpr):
    """How many of the pairs are of each expert. Grid: (experts).

    counts: [experts] int32; ids: [pairs] int64."""
    wait_for_last(DEPENDENT)
    expert = tl.program_id(0)
    count = tl.zeros([CHUNK], tl.int32)
    for first in range(0, pairs, CHUNK):
        pair = first + tl.arange(0, CHUNK)
        count += (tl.load(ids + pair, mask=pair < pairs, other=-1) == expert).to(tl.int32)
    tl.store(counts + expert, tl.sum(count))


@triton.jit(do_not_specialize=["pairs"])
def place_kernel(
    order,
    blocks,
    counts,
    ids,
    pairs,
    EXPERTS: tl.constexpr,
    PADDED_EXPERTS: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Puts the pairs of each expert behind those of the experts before, in their own order. Grid: (EXPERTS).

    order: [pairs] int32, the pair of each row; blocks: `Blocks` of ROWS; counts: [EXPERTS] int32; ids: [pairs] int64.
    PADDED_EXPERTS: EXPERTS, up to a power of two."""
    wait_for_last(DEPENDENT)
    expert = tl.program_id(0)
    every = tl.arange(0, PADDED_EXPERTS)
    count = tl.load(counts + every, mask=every < EXPERTS, other=0)
    row = tl.sum(tl.where(every < expert, count, 0))
    block = tl.sum(tl.where(every < expert, (count + ROWS - 1) // ROWS, 0))
    end = row + tl.sum(tl.where(every == expert, count, 0))
    for first in range(row, end, ROWS):
        tl.store(blocks.table + 3 * block, expert)
        tl.store(blocks.table + 3 * block + 1, first)
        tl.store(blocks.table + 3 * block + 2, tl.minimum(first + ROWS, end))
        block += 1
    if expert == EXPERTS - 1:
        tl.store(blocks.number, block)
    for first in range(0, pairs, CHUNK):
        pair = first + tl.arange(0, CHUNK)
        mine = tl.load(ids + pair, mask=pair < pairs, other=-1) == expert
        rank = tl.cumsum(mine.to(tl.int32), 0)
        tl.store(order + row + rank - 1, pair, mask=mine)
        row += tl.sum(mine.to(tl.int32))


def in_order(ids: Tensor, num_experts: int, rows: int) -> tuple[Tensor, Blocks, int]:
    """The pair of each row, the blocks of so many rows, and how many of these there are at most."""
    pairs, device = ids.numel(), ids.device
    hit = min(num_experts, pairs)
    most = hit + (pairs - hit) // rows
    counts, order, table, number = (
        torch.empty(size, dtype=torch.int32, device=device) for size in (num_experts, pairs, 3 * most, 1)
    )
    blocks, options = Blocks(table, number), launch_options(device)
    count_kernel[(num_experts,)](counts, ids, pairs, CHUNK=CHUNK, **options)
    place_kernel[(num_experts,)](
        order,
        blocks,
        counts,
        ids,
        pairs,
        EXPERTS=num_experts,
        PADDED_EXPERTS=triton.next_power_of_2(num_experts),
        ROWS=rows,
        CHUNK=CHUNK,
        **options,
    )
    return order, blocks, most
