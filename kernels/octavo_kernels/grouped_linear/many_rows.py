"""grouped_linear for Hopper, in Gluon, for more rows than stream their weights: warp-specialised, over a ring of stages
in shared memory.

The operands change sides, so that the weights can come from registers: they are unpacked there as they are stored, once
for all rows of a tile (see `words`), while another warpgroup multiplies. The rows are first put in the order in which
the numbers come so. A program is two warpgroups that compute and a warp that copies, and takes one tile after another;
a tile is 128 rows by two parts of 128 columns, gates and ups or neighbours. Where tiles are few their sums are split
over programs, and added up in order by another kernel, so that the same inputs bring the same bits."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gpu import gpu
from octavo_kernels.grouped_linear import MOST_ROWS, GroupedWeights
from octavo_kernels.grouped_linear.many_rows_kernel import many_rows_kernel
from octavo_kernels.grouped_linear.word_forms import BLOCK, Factors, form_of_groups
from octavo_kernels.grouped_linear.words import place_of
from octavo_kernels.hopper_products import tiles

ROWS = 128  # of a tile
COLUMNS = 256  # rows of the weight in a tile, of which each warpgroup has 64 of each part
STAGES = {4: 4, 8: 3}  # by bits: they fill a processor's shared memory
LEAST_STEPS, MOST_SPLITS = 3, 8  # of a program, and of a tile
# Rows, above which it is faster to write the weights out in 16 bits, and with a gate. On an H200, of Llama-3.1-8B's
# shape in int4, microseconds here and so: down of 256 rows 67 and 91, of 384 112 and 110; gate and up with their gate
# of 256 rows 111 and 190, of 1,024 394 and 411.
MOST, MOST_GATED = 256, 1024
PIECE = 1024  # numbers of a row that a program puts in order
COMPUTE_REGISTERS, COPY_REGISTERS, REGISTERS = 240, 24, 168  # of a thread, and on the average of all 12 warps
SUM_COLUMNS, SUM_ROWS = 64, 32  # of the result, whose parts a program adds up


class Shape(NamedTuple):
    """What a program knows of a product when it is compiled."""

    rows: int  # of the weight
    out: int  # columns of the result
    columns: int  # of the result in a tile
    apart: int  # rows of the weight from a tile's first part to its second
    steps: int  # of the sum, of a program
    splits: int
    padded: int  # columns of all tiles


def fits(x: Tensor, weight: GroupedWeights, gated: bool = False) -> bool:
    """Whether this form computes x [rows, in] by the weight, and is the fastest one; gated: with a gate."""
    is_many = MOST_ROWS < len(x) <= (MOST_GATED if gated else MOST)
    return is_many and x.dtype in (torch.bfloat16, torch.float16) and form_of_groups(weight) is not None


@triton.jit
def place_kernel(
    out, x, WIDTH: tl.constexpr, STRIDE: tl.constexpr, BITS: tl.constexpr, PIECE: tl.constexpr, DEPENDENT: tl.constexpr
):
    """Rows in the order in which weights of BITS take them, zeros behind the last column. Grid: (rows, ceil(STRIDE /
    PIECE)). out: [rows, STRIDE]; x: [rows, WIDTH], of one type."""
    wait_for_last(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    found = tl.load(x + row * WIDTH + column, mask=column < WIDTH, other=0.0)
    tl.store(out + row * STRIDE + place_of(column, BITS), found, mask=column < STRIDE)


@triton.jit(do_not_specialize=["rows"])
def sum_kernel(
    out,
    sums,
    scales,
    bias,
    rows,
    padded_rows,
    padded_columns,
    OUT: tl.constexpr,
    SPLITS: tl.constexpr,
    HIGH: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Adds up the parts of sums that are split. Grid: (ceil(OUT / COLUMNS), ceil(rows / ROWS)).

    sums: [SPLITS, padded_columns, padded_rows] float32; scales: of each HIGH rows of the weight one, where each row has
    one alone; out, bias: see `many_rows_kernel`."""
    wait_for_last(DEPENDENT)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = column < OUT
    place = column[:, None].to(tl.int64) * padded_rows + row[None, :]
    total = tl.zeros([COLUMNS, ROWS], tl.float32)
    for split in tl.static_range(SPLITS):
        part = sums + split * padded_columns.to(tl.int64) * padded_rows
        total += tl.load(part + place, mask=inside[:, None], other=0.0)
    if scales is not None:
        total *= tl.load(scales + column // HIGH, mask=inside, other=0.0).to(tl.float32)[:, None]
    if bias is not None:
        total += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)[:, None]
    found = total.to(out.dtype.element_ty).trans()
    tl.store(
        out + row.to(tl.int64)[:, None] * OUT + column[None, :],
        found,
        mask=(row < rows)[:, None] & inside[None, :],
    )


def splits_of(columns: int, width: int, rows: int, processors: int) -> int:
    """Into how many parts the sums of a tile are split, by a weight [columns, width]."""
    tiles, blocks = triton.cdiv(columns, COLUMNS) * triton.cdiv(rows, ROWS), triton.cdiv(width, BLOCK)
    splits = max(1, min(processors // tiles, blocks // LEAST_STEPS, MOST_SPLITS))
    parts: int = triton.cdiv(blocks, triton.cdiv(blocks, splits))
    return parts


def grouped_linear(
    x: Tensor,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
    splits: int | None = None,
) -> Tensor:
    """See `octavo_kernels.grouped_linear`. splits: of a tile's sums, to measure others than `splits_of` takes."""
    form = form_of_groups(weight)
    assert form is not None
    [rows, width], weight_rows = x.shape, len(weight.values)
    columns = weight_rows if gate is None else weight_rows // 2
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device) if out is None else out
    processors = gpu(x.device).processors
    if gate is not None:
        splits = 1  # the activation is of whole sums
    elif splits is None:
        splits = splits_of(columns, width, rows, processors)
    blocks = triton.cdiv(width, BLOCK)
    placed = x.new_empty(rows, blocks * BLOCK)
    place_kernel[(rows, triton.cdiv(placed.shape[1], PIECE))](
        placed, x, WIDTH=width, STRIDE=placed.shape[1], BITS=form.bits, PIECE=PIECE, **launch_options(x.device)
    )
    columns_in_tile = COLUMNS // 2 if gate else COLUMNS
    row_tiles, column_tiles = triton.cdiv(rows, ROWS), triton.cdiv(columns, columns_in_tile)
    shape = Shape(
        rows=weight_rows,
        out=columns,
        columns=columns_in_tile,
        apart=columns if gate else COLUMNS // 2,
        steps=triton.cdiv(blocks, splits),
        splits=splits,
        padded=column_tiles * columns_in_tile,
    )
    count = column_tiles * row_tiles * splits
    of_sums = (splits, shape.padded, row_tiles * ROWS) if splits > 1 else (0,)
    sums = torch.empty(of_sums, dtype=torch.float32, device=x.device)
    many_rows_kernel[(min(count, processors),)](
        tiles(placed, ROWS, 64),
        tiles(weight.values.view(torch.int32), 64, BLOCK * form.bits // 32),
        Factors(weight.scales, weight.zeros),
        bias,
        out,
        sums,
        rows,
        row_tiles,
        count,
        SHAPE=shape,
        FORM=form,
        GATE=gate or "",
        ROWS=ROWS,
        STAGES=STAGES[form.bits],
        COMPUTE_REGISTERS=COMPUTE_REGISTERS,
        COPY_REGISTERS=COPY_REGISTERS,
        num_warps=4,
        maxnreg=REGISTERS,
        launch_pdl=True,
    )
    if splits > 1:
        sum_kernel[(triton.cdiv(columns, SUM_COLUMNS), triton.cdiv(rows, SUM_ROWS))](
            out,
            sums,
            None if form.scaled else weight.scales,
            bias,
            rows,
            row_tiles * ROWS,
            shape.padded,
            OUT=columns,
            SPLITS=splits,
            HIGH=form.high,
            COLUMNS=SUM_COLUMNS,
            ROWS=SUM_ROWS,
            **launch_options(x.device),
        )
    return out
