"""A weight in groups as kernels in Triton get it, what its values stand for, and a product with them: what the kernels
of grouped_linear and of experts are made of."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.eight_bits_kernels import from_fp8
from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.quantized_linear import formats

SUPER = tl.constexpr(formats.SUPER)


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
