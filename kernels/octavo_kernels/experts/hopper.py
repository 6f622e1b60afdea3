"""experts for Hopper, in Gluon: rows of many pairs by weights of any of the common forms.

The rows of the pairs are first put in the order of the experts, so that the tensor memory accelerator copies tiles of
them as it copies tiles of the weights. A program is one or two warpgroups that compute and a warp that copies, and
takes one tile after another; a tile is up to 128 rows of one expert by two parts of columns, gates and ups or
neighbours. The weights are the matrix units' first operand, which may come from registers: narrow ones are unpacked
there, once for all rows of a tile (see `grouped_linear.words`), while other warpgroups multiply."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.experts import Biases, Weights
from octavo_kernels.experts.blocks import Blocks, in_order
from octavo_kernels.experts.hopper_kernel import grouped_kernel
from octavo_kernels.experts.hopper_weights import factors, form, matrix
from octavo_kernels.experts.triton import PIECE, experts_and_inner, sum_kernel
from octavo_kernels.gpu import capability, gpu
from octavo_kernels.grouped_linear.word_forms import BLOCK, Form
from octavo_kernels.grouped_linear.words import place_of
from octavo_kernels.hopper_products import tiles

WIDE_DEPTH = 64  # terms of a step of the sum, of weights of 16 bits
REGISTERS = 65536  # of a processor
COPY_REGISTERS = 24  # of a thread


class Tile(NamedTuple):
    """What one program works on at a time, and how."""

    rows: int
    stages: int  # in shared memory
    warpgroups: int  # that compute, of which each takes 64 columns of each part
    programs: int  # of a processor


# By the bits of a weight: tiles, and up to how many rows of an expert, on average, they are the fastest; found on an
# H200 in the shapes of gpt-oss 20B and Qwen3 30B-A3B. Their stages fill a processor's shared memory.
TILES = {
    16: ((4, Tile(8, 4, 1, 3)), (16, Tile(32, 3, 1, 3)), (32, Tile(64, 4, 1, 2)), (math.inf, Tile(128, 4, 2, 1))),
    8: (
        (4, Tile(8, 4, 1, 3)),
        (8, Tile(16, 3, 1, 3)),
        (16, Tile(32, 3, 1, 3)),
        (64, Tile(64, 3, 1, 2)),
        (math.inf, Tile(128, 3, 2, 1)),
    ),
    4: (
        (4, Tile(8, 6, 1, 3)),
        (8, Tile(16, 6, 1, 3)),
        (16, Tile(32, 4, 1, 3)),
        (64, Tile(64, 4, 1, 2)),
        (math.inf, Tile(128, 4, 2, 1)),
    ),
}
# Numbers of weights that the pairs multiply by, up to which rows of their own are faster: see `triton`. On an H200 two
# tokens of Qwen3 30B-A3B, 75 million, take 45 microseconds so in 16 bits and 48 here; one of gpt-oss 20B, 100 million,
# 74 and 62, and in MXFP4 57 and 50.
FEW_NUMBERS = 80 << 20
# Weights of 16 bits are read as fast by the Triton form, but for pairs so few, or experts of so many rows on average.
FEW_PAIRS, MANY_ROWS = 32, 16


class Shape(NamedTuple):
    """Of a product."""

    rows: int  # of an expert's weight
    out: int  # columns of the result
    stride: int  # columns of a row of the result in memory
    gated: bool
    columns: int  # of the result in a tile
    apart: int  # rows of the weight from a tile's first part to its second
    tiles: int  # of columns
    steps: int  # of the sum


class Grouping(NamedTuple):
    """What both products share."""

    order: Tensor
    blocks: Blocks
    tile: Tile
    limit: float
    bits: int  # of the weights by which what is gated is multiplied


def fits(hidden: Tensor, gate_up: Weights, down: Weights) -> bool:
    """Whether this form can be used on the device."""
    if hidden.device.type == "cuda" and capability(hidden.device) != (9, 0):
        return False
    forms = form(gate_up), form(down)
    if None in forms:
        return False
    # Scales of MXFP4 can be smaller than float16 reaches.
    return hidden.dtype == torch.bfloat16 or (
        hidden.dtype == torch.float16 and all(each is not None and each.kind != "mxfp4" for each in forms)
    )


def suits(hidden: Tensor, gate_up: Weights, down: Weights, pairs: int, among: int | None = None) -> bool:
    """Whether this form can be used, and is the fastest one."""
    if not fits(hidden, gate_up, down):
        return False
    num_experts, inner = experts_and_inner(gate_up)
    here = pairs * num_experts / (among or num_experts)  # of the pairs, on average
    if here * 3 * inner * hidden.shape[1] <= FEW_NUMBERS:
        return False
    is_narrow = not isinstance(gate_up, Tensor) and not isinstance(down, Tensor)
    return is_narrow or here <= FEW_PAIRS or here >= MANY_ROWS * num_experts


@triton.jit
def rows_kernel(
    out,
    hidden,
    order,
    blocks,
    stride_hidden,
    WIDTH: tl.constexpr,
    STRIDE: tl.constexpr,
    TOP_K: tl.constexpr,
    BITS: tl.constexpr,
    PIECE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """The rows that the experts multiply. Grid: (pairs, ceil(STRIDE / PIECE)).

    out: [pairs, STRIDE], in the order of `order`, the columns where weights of BITS take them, zeros behind the last;
    hidden: [tokens, WIDTH], stride of its rows in elements; of one type. blocks: see `blocks.place_kernel`."""
    wait_for_last(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    number = tl.load(blocks.number)
    if row >= tl.load(blocks.table + 3 * number - 1, mask=number > 0, other=0):
        return  # of the pairs whose expert is not here
    token = (tl.load(order + row) // TOP_K).to(tl.int64)
    column = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    found = tl.load(hidden + token * stride_hidden + column, mask=column < WIDTH, other=0.0)
    tl.store(out + row * STRIDE + place_of(column, BITS), found, mask=column < STRIDE)


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
    """See `octavo_kernels.experts`; for weights that fit."""
    [tokens, top_k], width, device = ids.shape, hidden.shape[1], hidden.device
    out = torch.empty(tokens, width, dtype=hidden.dtype, device=device) if out is None else out
    pairs, options = tokens * top_k, launch_options(device)
    if pairs == 0:
        return out
    num_experts, inner = experts_and_inner(gate_up)
    to_inner, to_width = form(gate_up), form(down)
    assert to_inner is not None
    assert to_width is not None
    tile = _tile({to_inner.bits, to_width.bits}, pairs / (among or num_experts))
    order, blocks, _ = in_order(ids, num_experts, tile.rows)
    states = hidden.new_empty(pairs, _padded(width, to_inner))
    activated = hidden.new_empty(pairs, _padded(inner, to_width))
    found = states.flatten()[: pairs * width].view(pairs, width)  # nothing reads the states then
    rows_kernel[(pairs, triton.cdiv(states.shape[1], PIECE))](
        states,
        hidden,
        order,
        blocks,
        hidden.stride(0),
        WIDTH=width,
        STRIDE=states.shape[1],
        TOP_K=top_k,
        BITS=to_inner.bits,
        PIECE=PIECE,
        **options,
    )

    grouping = Grouping(order, blocks, tile, limit or 0.0, to_width.bits)
    up = _shape(2 * inner, inner, activated.shape[1], True, tile, width, to_inner)
    _multiply(activated, states, gate_up, None if biases is None else biases.gate_up, up, to_inner, grouping)
    last = _shape(width, width, width, False, tile, inner, to_width)
    _multiply(found, activated, down, None if biases is None else biases.down, last, to_width, grouping)
    sum_kernel[(tokens, triton.cdiv(width, PIECE))](
        out, found, weights, ids, EXPERTS=num_experts, WIDTH=width, TOP_K=top_k, PIECE=PIECE, **options
    )
    return out


def _shape(rows: int, out: int, stride: int, gated: bool, tile: Tile, terms: int, of: Form) -> Shape:
    part = 64 * tile.warpgroups
    columns, apart = (part, out) if gated else (2 * part, part)
    return Shape(rows, out, stride, gated, columns, apart, triton.cdiv(stride, columns), triton.cdiv(terms, _depth(of)))


def _multiply(
    out: Tensor, states: Tensor, stacked: Weights, biases: Tensor | None, shape: Shape, of: Form, grouping: Grouping
) -> None:
    """Launches one of the products: see `hopper_kernel.grouped_kernel`."""
    tile = grouping.tile
    registers = REGISTERS // (128 * (tile.warpgroups + 1) * tile.programs) // 8 * 8
    grouped_kernel[(tile.programs * gpu(out.device).processors,)](
        tiles(states, tile.rows, 64),
        tiles(matrix(stacked), 64, _depth(of) if of.kind == "wide" else BLOCK * of.bits // 32),
        factors(stacked),
        biases,
        out,
        grouping.order,
        grouping.blocks,
        SHAPE=shape,
        FORM=of,
        LIMIT=grouping.limit,
        BITS=grouping.bits,
        ROWS=tile.rows,
        STAGES=tile.stages,
        WARPGROUPS=tile.warpgroups,
        COMPUTE_REGISTERS=(registers * (tile.warpgroups + 1) - COPY_REGISTERS) // tile.warpgroups // 8 * 8,
        COPY_REGISTERS=COPY_REGISTERS,
        num_warps=4,
        maxnreg=registers,
    )


def _tile(bits: set[int], rows: float) -> Tile:
    """For weights of those bits, and experts of so many rows on average. Stages of 8 bits are the largest ones."""
    return next(tile for most, tile in TILES[8 if 8 in bits else max(bits)] if rows <= most)


def _padded(width: int, of: Form) -> int:
    """Columns of rows that are multiplied by such weights."""
    return width if of.kind == "wide" else triton.cdiv(width, BLOCK) * BLOCK


def _depth(of: Form) -> int:
    """Terms of a step of the sum."""
    return WIDE_DEPTH if of.kind == "wide" else BLOCK
