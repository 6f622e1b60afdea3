"""grouped_linear in Triton: a program reads a tile of the weight as it is stored, and unpacks it before its product.

Few rows wait for the weights to come from memory: then the sums of a tile of columns are split over programs, until the
GPU is full, and added up in order by another kernel, so that the same inputs bring the same bits. For many rows the
weight is unpacked once, and multiplied by as any other."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.gpu import gpu
from octavo_kernels.grouped_linear import GroupedWeights, interleaved_dequantize
from octavo_kernels.grouped_linear.stored_weights import form, product, stored, unpacked, unpacked_halves

PROGRAMS_PER_PROCESSOR = 4
LEAST_STEPS = 4  # of a program's loop, below which splitting costs more than it brings
MOST_SPLITS = 16
# From so many rows on unpacking a weight for each tile of them takes longer than writing it once: on an H200 the query,
# key and value of Llama 3.1 8B take 27, 36 and 198 microseconds in Q4_K for 1, 8 and 32 rows, and about 35 so.
MANY_ROWS = 65
MANY_NESTED_ROWS = 17


class Tile(NamedTuple):
    """What one program works on at a time, and how."""

    rows: int  # at least 16, which is what tl.dot needs on a GPU
    columns: int  # of the result
    depth: int  # of the sum; at least 32, of which half is a product's where two numbers share a byte
    warps: int
    stages: int  # of the software pipeline


FEW_ROWS = Tile(16, 64, 128, 4, 4)
SOME_ROWS = Tile(64, 64, 64, 4, 4)
FLOAT32_TILE = Tile(16, 32, 32, 4, 2)  # exact float32 has no tensor cores: its operands live in registers


@triton.jit(do_not_specialize=["rows"])
def grouped_kernel(
    out,
    partials,
    x,
    weight,
    bias,
    rows,
    WIDTH: tl.constexpr,
    OUT: tl.constexpr,
    FORM: tl.constexpr,
    SPLITS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """A tile of the product, or of one of SPLITS parts of its sums. Grid: (tiles of columns, tiles of rows, SPLITS).

    out: [rows, OUT], x: [rows, WIDTH], bias: [OUT] or None, all of one float type; weight: `Stored`. partials: [SPLITS,
    rows, OUT] float32, where the sums are split; then out is not touched. FORM: the weight's `Form`."""
    wait_for_last(DEPENDENT)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    is_row = row < rows
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    is_column = column < OUT
    split = tl.program_id(2)
    states = x + row.to(tl.int64) * WIDTH
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    PART: tl.constexpr = (WIDTH + DEPTH * SPLITS - 1) // (DEPTH * SPLITS) * DEPTH
    for step in range(0, PART, DEPTH):
        total = product(total, states, is_row, weight, column, is_column, split * PART + step, WIDTH, DEPTH, FORM)
    mask = is_row[:, None] & is_column[None, :]
    place = row.to(tl.int64)[:, None] * OUT + column[None, :]
    if SPLITS == 1:
        if bias is not None:
            total += tl.load(bias + column, mask=is_column, other=0.0).to(tl.float32)[None, :]
        tl.store(out + place, total.to(out.dtype.element_ty), mask=mask)
    else:
        tl.store(partials + split.to(tl.int64) * rows * OUT + place, total, mask=mask)


@triton.jit(do_not_specialize=["numbers"])
def sum_kernel(
    out,
    partials,
    bias,
    numbers,
    OUT: tl.constexpr,
    SPLITS: tl.constexpr,
    PIECE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Adds up the parts of split sums. Grid: (ceil(numbers / PIECE)). numbers: rows * OUT; the rest: see
    `grouped_kernel`."""
    wait_for_last(DEPENDENT)
    at = tl.program_id(0).to(tl.int64) * PIECE + tl.arange(0, PIECE)
    inside = at < numbers
    total = tl.zeros([PIECE], tl.float32)
    for split in range(SPLITS):
        total += tl.load(partials + split * numbers.to(tl.int64) + at, mask=inside, other=0.0)
    if bias is not None:
        total += tl.load(bias + at % OUT, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def dequantize_kernel(
    out,
    weight,
    WIDTH: tl.constexpr,
    OUT: tl.constexpr,
    FORM: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """A tile of the weight as it is: out [OUT, WIDTH]. Grid: (tiles of COLUMNS rows of it, tiles of DEPTH columns); the
    rest: see `grouped_kernel`."""
    wait_for_last(DEPENDENT)
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    is_column = column < OUT
    first = tl.program_id(1) * DEPTH
    depth = first + tl.arange(0, DEPTH)
    if FORM.bits < 8:
        low, high = unpacked_halves(weight, column, is_column, first, WIDTH, DEPTH, FORM)
        numbers = tl.join(low, high).permute(1, 0, 2).reshape(COLUMNS, DEPTH)
    else:
        there = (depth < WIDTH)[:, None] & is_column[None, :]
        values = tl.load(weight.stored + column[None, :] * WIDTH + depth[:, None], mask=there, other=0)
        numbers = unpacked(values, weight, depth, first, column, there, is_column, DEPTH, FORM).trans()
    mask = is_column[:, None] & (depth < WIDTH)[None, :]
    tl.store(out + column[:, None] * WIDTH + depth[None, :], numbers.to(out.dtype.element_ty), mask=mask)


def grouped_linear(x: Tensor, weight: GroupedWeights, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.grouped_linear`."""
    rows, (columns, width) = len(x), weight.shape
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device) if out is None else out
    if rows == 0:
        return out
    if weight.interleaved or rows >= (MANY_ROWS if weight.factors is None else MANY_NESTED_ROWS):
        unpacked_weight = dequantize(weight, x.dtype)
        if bias is None:
            return torch.mm(x, unpacked_weight.t(), out=out)
        return torch.addmm(bias, x, unpacked_weight.t(), out=out)
    tile = _tile(rows, x.dtype)
    programs = triton.cdiv(columns, tile.columns), triton.cdiv(rows, tile.rows)
    splits = _splits(programs[0] * programs[1], triton.cdiv(width, tile.depth), x.device)
    partials = out if splits == 1 else torch.empty(splits, rows, columns, dtype=torch.float32, device=x.device)
    grouped_kernel[(*programs, splits)](
        out,
        partials,
        x,
        stored(weight),
        bias,
        rows,
        width,
        columns,
        form(weight),
        SPLITS=splits,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **launch_options(x.device),
    )
    if splits > 1:
        piece = 1024
        sum_kernel[(triton.cdiv(rows * columns, piece),)](
            out, partials, bias, rows * columns, OUT=columns, SPLITS=splits, PIECE=piece, **launch_options(x.device)
        )
    return out


def dequantize(weight: GroupedWeights, dtype: torch.dtype) -> Tensor:
    """[out, in] of that type."""
    if weight.interleaved:
        return interleaved_dequantize.dequantize(weight, dtype)
    columns, width = weight.shape
    out = torch.empty(columns, width, dtype=dtype, device=weight.values.device)
    high, deep = 32, 128
    dequantize_kernel[(triton.cdiv(columns, high), triton.cdiv(width, deep))](
        out, stored(weight), width, columns, form(weight), COLUMNS=high, DEPTH=deep, **launch_options(out.device)
    )
    return out


def _tile(rows: int, dtype: torch.dtype) -> Tile:
    if dtype == torch.float32:
        return FLOAT32_TILE
    if rows <= FEW_ROWS.rows:
        return FEW_ROWS
    return SOME_ROWS


def _splits(programs: int, steps: int, device: torch.device) -> int:
    """Parts of a tile's sums, a power of two: enough to fill the GPU with so many tiles."""
    wanted = gpu(device).processors * PROGRAMS_PER_PROCESSOR // programs
    most = max(1, min(wanted, steps // LEAST_STEPS, MOST_SPLITS))
    return 1 << (most.bit_length() - 1)
