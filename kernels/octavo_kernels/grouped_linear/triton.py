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
from octavo_kernels.eight_bits_kernels import from_fp8
from octavo_kernels.gpu import gpu
from octavo_kernels.grouped_linear import GroupedWeights, interleaved_dequantize
from octavo_kernels.quantized_linear import formats

PROGRAMS_PER_PROCESSOR = 4
LEAST_STEPS = 4  # of a program's loop, below which splitting costs more than it brings
MOST_SPLITS = 16
SUPER = tl.constexpr(formats.SUPER)
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


class Stored(NamedTuple):
    """GroupedWeights as the kernel gets them; FP8's values as uint8."""

    stored: Tensor  # a field called values would be hidden by Triton's tuples
    scales: Tensor
    zeros: Tensor | None
    codebook: Tensor | None
    minimums: Tensor | None
    factors: Tensor | None
    upper: Tensor | None


class Form(NamedTuple):
    """What a program knows of a weight when it is compiled."""

    bits: int
    groups: int  # of columns
    high: int  # rows of a group
    wide: int  # columns of a group
    is_fp8: bool
    has_own_books: bool  # each row has a codebook
    offset: int
    supers: int  # of columns, which share factors; 0: scales are not nested


@triton.jit
def spread(each, PARTS: tl.constexpr):
    """[PARTS, COLUMNS] of [groups, COLUMNS]: each row as often as it has parts."""
    GROUPS: tl.constexpr = each.shape[0]
    return tl.broadcast_to(each[:, None, :], [GROUPS, PARTS // GROUPS, each.shape[1]]).reshape(PARTS, each.shape[1])


@triton.jit
def of_groups(
    factors,  # [rows of groups, groups of columns]
    row,  # [1, COLUMNS], of them
    depth,  # [parts], of the sum, all between first and first + DEPTH
    first,
    there,  # [parts, COLUMNS]
    is_column,  # [COLUMNS]
    DEPTH: tl.constexpr,
    FORM: tl.constexpr,
):
    """The factor of the group that each term is in, [parts or 1, COLUMNS] float32."""
    if FORM.groups == 1 or FORM.wide % DEPTH == 0:
        # All of a step's terms are of one group; steps behind the last term have nothing to scale.
        group = tl.minimum(first // FORM.wide, FORM.groups - 1)
        found = tl.load(factors + row * FORM.groups + group, mask=is_column[None, :], other=0).to(tl.float32)
    elif DEPTH % FORM.wide == 0:
        group = first // FORM.wide + tl.arange(0, DEPTH // FORM.wide)
        inside = (group < FORM.groups)[:, None] & is_column[None, :]
        found = tl.load(factors + row * FORM.groups + group[:, None], mask=inside, other=0).to(tl.float32)
        found = spread(found, depth.shape[0])
    else:
        found = tl.load(factors + row * FORM.groups + depth[:, None] // FORM.wide, mask=there, other=0).to(tl.float32)
    return found


@triton.jit
def halves(
    weight,  # Stored
    column,  # [COLUMNS] int64, rows of the weight
    is_column,  # [COLUMNS]
    first,  # where in the sum
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,  # terms of the sum
    FORM: tl.constexpr,
):
    """Where the pairs of terms are that share bytes, [DEPTH / 2], and the values of the first and of the second of
    each, [DEPTH / 2, COLUMNS]."""
    pair = first // 2 + tl.arange(0, DEPTH // 2)
    there = (pair < WIDTH // 2)[:, None] & is_column[None, :]
    packed = tl.load(weight.stored + column[None, :] * (WIDTH // 2) + pair[:, None], mask=there, other=0)
    even, odd = packed & 15, packed >> 4
    if FORM.bits > 4:
        UPPER: tl.constexpr = FORM.bits - 4
        PAIRS: tl.constexpr = 4 // UPPER  # whose upper bits share a byte
        byte = first // (2 * PAIRS) + tl.arange(0, DEPTH // (2 * PAIRS))
        inside = (byte < WIDTH // (2 * PAIRS))[:, None] & is_column[None, :]
        upper = tl.load(weight.upper + column[None, :] * (WIDTH // (2 * PAIRS)) + byte[:, None], mask=inside, other=0)
        own = spread(upper, DEPTH // 2).to(tl.int32) >> (pair % PAIRS * (2 * UPPER))[:, None]
        MASK: tl.constexpr = (1 << UPPER) - 1
        even = even.to(tl.int32) | ((own & MASK) << 4)
        odd = odd.to(tl.int32) | ((own >> UPPER & MASK) << 4)
    return pair, even, odd


@triton.jit
def unpacked(
    values,  # [depth, COLUMNS], as they are stored
    weight,  # Stored
    depth,  # [depth] of the sum, from `first` on
    first,
    column,  # [COLUMNS] int64, rows of the weight
    there,  # [depth, COLUMNS]
    is_column,  # [COLUMNS]
    DEPTH: tl.constexpr,  # terms of the sum in a step
    FORM: tl.constexpr,
):
    """What the values stand for, [depth, COLUMNS] float32."""
    if FORM.is_fp8:
        numbers = from_fp8(values)
    elif weight.codebook is not None:
        code = values.to(tl.int64)
        if FORM.has_own_books:
            code += column[None, :] * 16
        numbers = tl.load(weight.codebook + code, mask=there, other=0.0).to(tl.float32)
    else:
        numbers = values.to(tl.float32) - FORM.offset
    row = column[None, :]
    if weight.zeros is not None:
        numbers -= of_groups(weight.zeros, row, depth, first, there, is_column, DEPTH, FORM)
    scale = of_groups(weight.scales, row // FORM.high, depth, first, there, is_column, DEPTH, FORM)
    if FORM.supers == 0:
        numbers *= scale
        if weight.minimums is not None:
            numbers += of_groups(weight.minimums, row, depth, first, there, is_column, DEPTH, FORM)
    else:
        # All of a step's terms share their factors.
        KINDS: tl.constexpr = 1 if weight.minimums is None else 2
        factors = weight.factors + row * (KINDS * FORM.supers) + tl.minimum(first // SUPER, FORM.supers - 1)
        numbers *= scale * tl.load(factors, mask=is_column[None, :], other=0).to(tl.float32)
        if weight.minimums is not None:
            minimum = of_groups(weight.minimums, row, depth, first, there, is_column, DEPTH, FORM)
            factor = tl.load(factors + FORM.supers, mask=is_column[None, :], other=0).to(tl.float32)
            numbers += minimum * factor
    return numbers


@triton.jit
def unpacked_halves(
    weight,
    column,
    is_column,
    first,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    FORM: tl.constexpr,
):
    """What the first of each pair of terms stands for, and the second: see `halves` and `unpacked`."""
    pair, even, odd = halves(weight, column, is_column, first, WIDTH, DEPTH, FORM)
    there = (pair < WIDTH // 2)[:, None] & is_column[None, :]
    return (
        unpacked(even, weight, 2 * pair, first, column, there, is_column, DEPTH, FORM),
        unpacked(odd, weight, 2 * pair + 1, first, column, there, is_column, DEPTH, FORM),
    )


@triton.jit
def product(
    total,  # [ROWS, COLUMNS] float32, to which it is added
    states,  # [ROWS] pointers to the rows of what is multiplied, `WIDTH` wide
    is_row,  # [ROWS]
    weight,  # Stored
    column,  # [COLUMNS] int64, rows of the weight
    is_column,  # [COLUMNS]
    first,  # where in the sum
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    FORM: tl.constexpr,
):
    """`DEPTH` terms of the sums of states times weights, for one program of any grid."""
    if FORM.bits < 8:
        # The low halves of the bytes are the even terms, the high halves the odd ones: one product for each.
        pair = first // 2 + tl.arange(0, DEPTH // 2)
        mask = is_row[:, None] & (pair < WIDTH // 2)[None, :]
        even = tl.load(states[:, None] + 2 * pair[None, :], mask=mask, other=0.0)
        odd = tl.load(states[:, None] + 2 * pair[None, :] + 1, mask=mask, other=0.0)
        low, high = unpacked_halves(weight, column, is_column, first, WIDTH, DEPTH, FORM)
        total = tl.dot(even, low.to(even.dtype), total, input_precision="ieee")
        total = tl.dot(odd, high.to(odd.dtype), total, input_precision="ieee")
    else:
        depth = first + tl.arange(0, DEPTH)
        inside = depth < WIDTH
        there = inside[:, None] & is_column[None, :]
        term = tl.load(states[:, None] + depth[None, :], mask=is_row[:, None] & inside[None, :], other=0.0)
        values = tl.load(weight.stored + column[None, :] * WIDTH + depth[:, None], mask=there, other=0)
        numbers = unpacked(values, weight, depth, first, column, there, is_column, DEPTH, FORM)
        total = tl.dot(term, numbers.to(term.dtype), total, input_precision="ieee")
    return total


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


def stored(weight: GroupedWeights) -> Stored:
    """A weight as the kernels get it."""
    is_fp8 = weight.values.dtype == torch.float8_e4m3fn
    values = weight.values.view(torch.uint8) if is_fp8 else weight.values
    beside = weight.zeros, weight.codebook, weight.minimums, weight.factors, weight.upper
    return Stored(values, weight.scales, *beside)


def form(weight: GroupedWeights) -> Form:
    """What the kernels are compiled for."""
    return Form(
        bits=weight.bits,
        groups=weight.scales.shape[1],
        high=weight.group[0],
        wide=weight.group[1],
        is_fp8=weight.values.dtype == torch.float8_e4m3fn,
        has_own_books=weight.codebook is not None and weight.codebook.dim() == 2,
        offset=weight.offset,
        supers=0 if weight.factors is None else weight.factors.shape[2],
    )


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
