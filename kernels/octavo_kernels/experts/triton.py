"""experts in Triton: the pairs of a token and an expert are put in the order of the experts, and cut into blocks of
rows of one expert each (see `blocks`), which two grouped products (see `products`) go through.

A few tokens hardly share an expert: each pair is a row of its own then, which needs neither order nor matrix units."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.experts import Biases, PackedWeights, StackedGroups, Weights
from octavo_kernels.experts.blocks import in_order
from octavo_kernels.experts.products import bias_of, product, row_product, stacked_form, stacked_weights

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


@triton.jit
def gated(gate, up, LIMIT: tl.constexpr):
    """silu(gate) * up, or gpt-oss's form of it: see `octavo_kernels.experts`."""
    if LIMIT != 0:
        gate = tl.minimum(gate, LIMIT)
        up = tl.minimum(tl.maximum(up, -LIMIT), LIMIT) + 1
        return gate * tl.sigmoid(1.702 * gate) * up
    return gate * tl.sigmoid(gate) * up


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
    among: int | None = None,
) -> Tensor:
    """See `octavo_kernels.experts`."""
    [tokens, top_k], width, device = ids.shape, hidden.shape[1], hidden.device
    to_inner = stacked_weights(gate_up, None if biases is None else biases.gate_up)
    to_width = stacked_weights(down, None if biases is None else biases.down)
    num_experts, inner = experts_and_inner(gate_up)
    out = torch.empty(tokens, width, dtype=hidden.dtype, device=device) if out is None else out
    pairs = tokens * top_k
    if pairs == 0:
        return out
    options = launch_options(device)
    shape = {"WIDTH": width, "INNER": inner}
    activated = torch.empty(pairs, inner, dtype=hidden.dtype, device=device)
    found = torch.empty(pairs, width, dtype=hidden.dtype, device=device)
    first, second = {"FORM": stacked_form(gate_up), "TOP_K": top_k, "LIMIT": limit or 0.0}, {"FORM": stacked_form(down)}
    rows = pairs / (among or num_experts)  # of an expert, on average
    if pairs <= FEW_PAIRS and rows <= 1:  # of more pairs than there are experts some share one
        shape |= {"EXPERTS": num_experts, "COLUMNS": ROW.columns, "DEPTH": ROW.depth, "num_warps": ROW.warps}
        gate_up_of_pair_kernel[(pairs, triton.cdiv(inner, ROW.columns))](
            activated, hidden, to_inner, ids, hidden.stride(0), HEIGHT=_height(gate_up), **first, **shape, **options
        )
        down_of_pair_kernel[(pairs, triton.cdiv(width, ROW.columns))](
            found, activated, to_width, ids, HEIGHT=_height(down), **second, **shape, **options
        )
    else:
        tile = _tile(rows, hidden.dtype)
        order, blocks, most = in_order(ids, num_experts, tile.rows)
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


def _tile(rows: float, dtype: torch.dtype) -> Tile:
    """By how many rows an expert has on average."""
    if dtype == torch.float32:
        return FLOAT32_TILE
    return FEW_ROWS if rows <= 16 else SOME_ROWS if rows <= 32 else MANY_ROWS if rows <= 128 else MOST_ROWS


def _height(weights: Weights) -> int:
    """Of what a program of one row sums: see `row_product`."""
    halves = weights.weight.bits < 8 if isinstance(weights, StackedGroups) else isinstance(weights, PackedWeights)
    return ROW.depth // 2 if halves else ROW.depth


def experts_and_inner(gate_up: Weights) -> tuple[int, int]:
    """How many experts there are, and their inner width."""
    if isinstance(gate_up, StackedGroups):
        return gate_up.num_experts, gate_up.weight.shape[0] // (2 * gate_up.num_experts)
    stacked = gate_up.blocks if isinstance(gate_up, PackedWeights) else gate_up
    assert isinstance(stacked, Tensor)
    return stacked.shape[0], stacked.shape[1] // 2
