"""experts in Triton: the pairs of a token and an expert are put in the order of the experts, and cut into blocks of
rows of one expert each, which two grouped products go through.

Which rows a block has is worked out on the device. The grid has room for the most blocks that the pairs could fill;
programs without a block end at once.

A few tokens hardly share an expert: each pair is a row of its own then, which needs neither order nor matrix units."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.experts import Biases, PackedWeights, StackedGroups, Weights
from octavo_kernels.experts.mxfp4 import mxfp4
from octavo_kernels.grouped_linear.triton import Form, Stored, form, stored, unpacked, unpacked_halves
from octavo_kernels.grouped_linear.triton import product as grouped_product

CHUNK = 1024  # pairs that are looked at together
PIECE = 1024  # elements of a row that one program sums


class Tile(NamedTuple):
    """What one program of a grouped product works on at a time, and how."""

    rows: int  # at least 16, which is what tl.dot needs on a GPU
    columns: int  # of the result
    depth: int  # of the sum
    warps: int
    stages: int  # of the software pipeline


# Up to so many pairs, which are rows of their own then, matrix units bring nothing: on an H200 the experts of 1, 4 and
# 8 tokens in Qwen3-30B-A3B's shape take 26, 74 and 124 microseconds so, and in blocks 34, 75 and 120; in 4 bits 25, 70
# and 128, and 77, 93 and 138.
FEW_PAIRS = 32


class RowTile(NamedTuple):
    """What one program works on at a time where it has one row."""

    columns: int
    depth: int
    warps: int


ROW = RowTile(8, 256, 4)
FEW_ROWS = Tile(16, 64, 128, 4, 3)  # per expert, as in a decode step: what counts is how fast weights are read
SOME_ROWS = Tile(32, 64, 64, 4, 4)
MANY_ROWS = Tile(64, 64, 64, 4, 3)
MOST_ROWS = Tile(128, 64, 64, 8, 3)  # 96 KB of shared memory, of the 99 of consumer GPUs
FLOAT32_TILE = Tile(16, 32, 32, 4, 2)  # exact float32 has no tensor cores: its operands live in registers


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


class Stacked(NamedTuple):
    """A projection of all experts as the kernels get it: [experts, out, in] in the states' type, `PackedWeights`, or
    `StackedGroups`."""

    weight: Tensor | Stored
    scales: Tensor | None  # of PackedWeights
    biases: Tensor | None  # [experts, out]


@triton.jit
def product(
    total,  # [ROWS, COLUMNS] float32, to which it is added
    states,  # [ROWS] pointers to the rows of what is multiplied, `width` wide
    is_row,  # [ROWS]
    stacked,  # Stacked
    column,  # [COLUMNS] int64, the rows of the weights, of all experts
    is_column,  # [COLUMNS]
    first,  # where in the sum
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    FORM: tl.constexpr,  # of StackedGroups; else None
):
    """`DEPTH` terms of the sums of states times weights, for one program of any grid."""
    if FORM is not None:
        total = grouped_product(total, states, is_row, stacked.weight, column, is_column, first, WIDTH, DEPTH, FORM)
    elif stacked.scales is None:
        depth = first + tl.arange(0, DEPTH)
        inside = depth < WIDTH
        x = tl.load(states[:, None] + depth[None, :], mask=is_row[:, None] & inside[None, :], other=0.0)
        there = inside[:, None] & is_column[None, :]
        w = tl.load(stacked.weight + column[None, :] * WIDTH + depth[:, None], mask=there, other=0.0)
        total = tl.dot(x, w, total, input_precision="ieee")
    else:
        # The low halves of the bytes are the even terms, the high halves the odd ones: one product for each.
        pair = first // 2 + tl.arange(0, DEPTH // 2)
        rows = is_row[:, None] & (pair < WIDTH // 2)[None, :]
        even = tl.load(states[:, None] + 2 * pair[None, :], mask=rows, other=0.0)
        odd = tl.load(states[:, None] + 2 * pair[None, :] + 1, mask=rows, other=0.0)
        low, high = mxfp4(stacked, column, is_column, first, WIDTH, DEPTH)
        total = tl.dot(even, low.to(even.dtype), total, input_precision="ieee")
        total = tl.dot(odd, high.to(odd.dtype), total, input_precision="ieee")
    return total


@triton.jit
def row_product(
    total,  # [HEIGHT, COLUMNS] float32, to which it is added; its sum over the first dimension is the product
    state,  # pointer to the row of what is multiplied
    stacked,  # as for `product`, with the rest
    column,
    is_column,
    first,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    FORM: tl.constexpr,
    HEIGHT: tl.constexpr,  # DEPTH, or half of it where two terms share a byte
):
    """`DEPTH` terms of one row's sums, for one program of any grid."""
    if DEPTH == HEIGHT:
        depth = first + tl.arange(0, DEPTH)
        inside = depth < WIDTH
        there = inside[:, None] & is_column[None, :]
        x = tl.load(state + depth, mask=inside, other=0.0).to(tl.float32)[:, None]
        if FORM is None:
            weight = tl.load(stacked.weight + column[None, :] * WIDTH + depth[:, None], mask=there, other=0.0)
            total += x * weight.to(tl.float32)
        else:
            values = tl.load(stacked.weight.stored + column[None, :] * WIDTH + depth[:, None], mask=there, other=0)
            numbers = unpacked(values, stacked.weight, depth, first, column, there, is_column, DEPTH, FORM)
            total += x * numbers
    else:
        pair = first // 2 + tl.arange(0, HEIGHT)
        inside = pair < WIDTH // 2
        even = tl.load(state + 2 * pair, mask=inside, other=0.0).to(tl.float32)[:, None]
        odd = tl.load(state + 2 * pair + 1, mask=inside, other=0.0).to(tl.float32)[:, None]
        if FORM is None:
            low, high = mxfp4(stacked, column, is_column, first, WIDTH, DEPTH)
        else:
            low, high = unpacked_halves(stacked.weight, column, is_column, first, WIDTH, DEPTH, FORM)
        total += even * low + odd * high
    return total


@triton.jit
def gated(gate, up, LIMIT: tl.constexpr):
    """silu(gate) * up, or gpt-oss's form of it: see `octavo_kernels.experts`."""
    if LIMIT != 0:
        gate = tl.minimum(gate, LIMIT)
        up = tl.minimum(tl.maximum(up, -LIMIT), LIMIT) + 1
        return gate * tl.sigmoid(1.702 * gate) * up
    return gate * tl.sigmoid(gate) * up


@triton.jit
def bias_of(stacked, column, is_column):
    """[1, COLUMNS] float32. Arguments as for `product`."""
    return tl.load(stacked.biases + column, mask=is_column, other=0.0).to(tl.float32)[None, :]


@triton.jit
def gate_up_kernel(
    activated,
    hidden,
    stacked,
    order,
    blocks,
    stride_hidden,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    TOP_K: tl.constexpr,
    LIMIT: tl.constexpr,
    FORM: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """activated = silu(gate) * up of each row's token by its expert. Grid: (most blocks, ceil(INNER / COLUMNS)).

    activated: [pairs, INNER], in the order of `order`; hidden: [tokens, WIDTH], stride of its rows in elements; of one
    float type. stacked: `Stacked` [experts, 2 * INNER, WIDTH]; order, blocks: see `place_kernel`. LIMIT: see
    `octavo_kernels.experts`; 0: none. FORM: see `product`."""
    wait_for_last(DEPENDENT)
    block = tl.program_id(0)
    if block >= tl.load(blocks.number):
        return
    row = tl.load(blocks.table + 3 * block + 1) + tl.arange(0, ROWS)
    is_row = row < tl.load(blocks.table + 3 * block + 2)
    token = (tl.load(order + row, mask=is_row, other=0) // TOP_K).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < INNER
    states = hidden + token * stride_hidden
    gate_row = tl.load(blocks.table + 3 * block).to(tl.int64) * 2 * INNER + column
    gate = tl.zeros([ROWS, COLUMNS], tl.float32)
    up = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, WIDTH, DEPTH):
        gate = product(gate, states, is_row, stacked, gate_row, is_column, first, WIDTH, DEPTH, FORM)
        up = product(up, states, is_row, stacked, gate_row + INNER, is_column, first, WIDTH, DEPTH, FORM)
    if stacked.biases is not None:
        gate += bias_of(stacked, gate_row, is_column)
        up += bias_of(stacked, gate_row + INNER, is_column)
    found = gated(gate, up, LIMIT).to(activated.dtype.element_ty)
    where = row[:, None].to(tl.int64) * INNER + column[None, :]
    tl.store(activated + where, found, mask=is_row[:, None] & is_column[None, :])


@triton.jit
def down_kernel(
    found,
    activated,
    stacked,
    order,
    blocks,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    FORM: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """found = down(activated) of each pair, in the pairs' own order. Grid: (most blocks, ceil(WIDTH / COLUMNS)).

    found: [pairs, WIDTH]; activated: [pairs, INNER], in the order of `order`; of one float type. stacked: `Stacked`
    [experts, WIDTH, INNER]; order, blocks: see `place_kernel`; FORM: see `product`."""
    wait_for_last(DEPENDENT)
    block = tl.program_id(0)
    if block >= tl.load(blocks.number):
        return
    row = tl.load(blocks.table + 3 * block + 1) + tl.arange(0, ROWS)
    is_row = row < tl.load(blocks.table + 3 * block + 2)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < WIDTH
    weight_row = tl.load(blocks.table + 3 * block).to(tl.int64) * WIDTH + column
    states = activated + row.to(tl.int64) * INNER
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, INNER, DEPTH):
        total = product(total, states, is_row, stacked, weight_row, is_column, first, INNER, DEPTH, FORM)
    if stacked.biases is not None:
        total += bias_of(stacked, weight_row, is_column)
    pair = tl.load(order + row, mask=is_row, other=0).to(tl.int64)
    where = pair[:, None] * WIDTH + column[None, :]
    tl.store(found + where, total.to(found.dtype.element_ty), mask=is_row[:, None] & is_column[None, :])


@triton.jit
def gate_up_of_pair_kernel(
    activated,
    hidden,
    stacked,
    ids,
    stride_hidden,
    EXPERTS: tl.constexpr,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    TOP_K: tl.constexpr,
    LIMIT: tl.constexpr,
    FORM: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    HEIGHT: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """activated = silu(gate) * up of each pair's token by its expert, of those that are here. Grid: (pairs, ceil(INNER
    / COLUMNS)).

    activated: [pairs, INNER]; ids: [pairs] int64; HEIGHT: see `row_product`; the rest: see `gate_up_kernel`."""
    wait_for_last(DEPENDENT)
    pair = tl.program_id(0).to(tl.int64)
    expert = tl.load(ids + pair)
    if (expert < 0) | (expert >= EXPERTS):
        return
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < INNER
    state = hidden + pair // TOP_K * stride_hidden
    gate_row = expert * 2 * INNER + column
    gate = tl.zeros([HEIGHT, COLUMNS], tl.float32)
    up = tl.zeros([HEIGHT, COLUMNS], tl.float32)
    for first in range(0, WIDTH, DEPTH):
        gate = row_product(gate, state, stacked, gate_row, is_column, first, WIDTH, DEPTH, FORM, HEIGHT)
        up = row_product(up, state, stacked, gate_row + INNER, is_column, first, WIDTH, DEPTH, FORM, HEIGHT)
    gate, up = tl.sum(gate, 0)[None, :], tl.sum(up, 0)[None, :]
    if stacked.biases is not None:
        gate += bias_of(stacked, gate_row, is_column)
        up += bias_of(stacked, gate_row + INNER, is_column)
    found = gated(gate, up, LIMIT).to(activated.dtype.element_ty)
    tl.store(activated + pair * INNER + column[None, :], found, mask=is_column[None, :])


@triton.jit
def down_of_pair_kernel(
    found,
    activated,
    stacked,
    ids,
    EXPERTS: tl.constexpr,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    FORM: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    HEIGHT: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """found = down(activated) of each pair whose expert is here. Grid: (pairs, ceil(WIDTH / COLUMNS)).

    found: [pairs, WIDTH]; activated: [pairs, INNER]; the rest: see `gate_up_of_pair_kernel`."""
    wait_for_last(DEPENDENT)
    pair = tl.program_id(0).to(tl.int64)
    expert = tl.load(ids + pair)
    if (expert < 0) | (expert >= EXPERTS):
        return
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < WIDTH
    row = expert * WIDTH + column
    total = tl.zeros([HEIGHT, COLUMNS], tl.float32)
    for first in range(0, INNER, DEPTH):
        total = row_product(total, activated + pair * INNER, stacked, row, is_column, first, INNER, DEPTH, FORM, HEIGHT)
    result = tl.sum(total, 0)[None, :]
    if stacked.biases is not None:
        result += bias_of(stacked, row, is_column)
    tl.store(found + pair * WIDTH + column[None, :], result.to(found.dtype.element_ty), mask=is_column[None, :])


@triton.jit
def sum_kernel(
    out,
    found,
    weights,
    ids,
    EXPERTS: tl.constexpr,
    WIDTH: tl.constexpr,
    TOP_K: tl.constexpr,
    PIECE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """out = the weighted sum of each token's pairs, in their order, of those whose expert is here. Grid: (tokens,
    ceil(WIDTH / PIECE)).

    out: [tokens, WIDTH]; found: [tokens, TOP_K, WIDTH]; of one float type. weights: [tokens, TOP_K] float32; ids:
    [tokens, TOP_K] int64."""
    wait_for_last(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    element = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    inside = element < WIDTH
    total = tl.zeros([PIECE], tl.float32)
    for pair in range(token * TOP_K, token * TOP_K + TOP_K):
        expert = tl.load(ids + pair)
        is_here = (expert >= 0) & (expert < EXPERTS)
        result = tl.load(found + pair * WIDTH + element, mask=inside & is_here, other=0.0)
        total += tl.load(weights + pair) * result.to(tl.float32)
    tl.store(out + token * WIDTH + element, total.to(out.dtype.element_ty), mask=inside)


def experts(
    hidden: Tensor,
    gate_up: Weights,
    down: Weights,
    ids: Tensor,
    weights: Tensor,
    out: Tensor | None = None,
    biases: Biases | None = None,
    limit: float | None = None,
) -> Tensor:
    """See `octavo_kernels.experts`."""
    [tokens, top_k], width, device = ids.shape, hidden.shape[1], hidden.device
    to_inner = _stacked(gate_up, None if biases is None else biases.gate_up)
    to_width = _stacked(down, None if biases is None else biases.down)
    num_experts, inner = _experts_and_inner(gate_up)
    out = torch.empty(tokens, width, dtype=hidden.dtype, device=device) if out is None else out
    pairs = tokens * top_k
    if pairs == 0:
        return out
    options = launch_options(device)
    shape = {"WIDTH": width, "INNER": inner}
    activated = torch.empty(pairs, inner, dtype=hidden.dtype, device=device)
    found = torch.empty(pairs, width, dtype=hidden.dtype, device=device)
    first, second = {"FORM": _form(gate_up), "TOP_K": top_k, "LIMIT": limit or 0.0}, {"FORM": _form(down)}
    if pairs <= min(FEW_PAIRS, num_experts):  # of more than there are experts some share one
        shape |= {"EXPERTS": num_experts, "COLUMNS": ROW.columns, "DEPTH": ROW.depth, "num_warps": ROW.warps}
        gate_up_of_pair_kernel[(pairs, triton.cdiv(inner, ROW.columns))](
            activated, hidden, to_inner, ids, hidden.stride(0), HEIGHT=_height(gate_up), **first, **shape, **options
        )
        down_of_pair_kernel[(pairs, triton.cdiv(width, ROW.columns))](
            found, activated, to_width, ids, HEIGHT=_height(down), **second, **shape, **options
        )
    else:
        tile = _tile(pairs, num_experts, hidden.dtype)
        order, blocks, most = _in_order(ids, num_experts, tile.rows)
        shape |= {"ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth}
        shape |= {"num_warps": tile.warps, "num_stages": tile.stages}
        gate_up_kernel[(most, triton.cdiv(inner, tile.columns))](
            activated, hidden, to_inner, order, blocks, hidden.stride(0), **first, **shape, **options
        )
        down_kernel[(most, triton.cdiv(width, tile.columns))](
            found, activated, to_width, order, blocks, **second, **shape, **options
        )
    sum_kernel[(tokens, triton.cdiv(width, PIECE))](
        out, found, weights, ids, EXPERTS=num_experts, WIDTH=width, TOP_K=top_k, PIECE=PIECE, **options
    )
    return out


def _in_order(ids: Tensor, num_experts: int, rows: int) -> tuple[Tensor, Blocks, int]:
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


def _tile(pairs: int, num_experts: int, dtype: torch.dtype) -> Tile:
    """By how many rows an expert has on average."""
    if dtype == torch.float32:
        return FLOAT32_TILE
    rows = pairs / num_experts
    return FEW_ROWS if rows <= 16 else SOME_ROWS if rows <= 32 else MANY_ROWS if rows <= 128 else MOST_ROWS


def _height(weights: Weights) -> int:
    """Of what a program of one row sums: see `row_product`."""
    halves = weights.weight.bits < 8 if isinstance(weights, StackedGroups) else isinstance(weights, PackedWeights)
    return ROW.depth // 2 if halves else ROW.depth


def _stacked(weights: Weights, biases: Tensor | None) -> Stacked:
    if isinstance(weights, StackedGroups):
        return Stacked(stored(weights.weight), None, biases)
    if isinstance(weights, PackedWeights):
        return Stacked(weights.blocks, weights.scales, biases)
    assert isinstance(weights, Tensor)
    return Stacked(weights, None, biases)


def _form(weights: Weights) -> Form | None:
    return form(weights.weight) if isinstance(weights, StackedGroups) else None


def _experts_and_inner(gate_up: Weights) -> tuple[int, int]:
    """How many experts there are, and their inner width."""
    if isinstance(gate_up, StackedGroups):
        return gate_up.num_experts, gate_up.weight.shape[0] // (2 * gate_up.num_experts)
    stacked = gate_up.blocks if isinstance(gate_up, PackedWeights) else gate_up
    assert isinstance(stacked, Tensor)
    return stacked.shape[0], stacked.shape[1] // 2
