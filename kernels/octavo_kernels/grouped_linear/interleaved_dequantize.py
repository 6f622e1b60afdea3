"""Interleaved weights as they are, in Triton, for products of many rows."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.grouped_linear.interleaving import groups_in_block
from octavo_kernels.quantized_linear import formats

SUPER = tl.constexpr(formats.SUPER)
_COLUMNS = 16  # rows of the weight in a tile


@triton.jit
def unpacked_words(words, column, is_column, block, STRIDE: tl.constexpr, WORDS: tl.constexpr, BITS: tl.constexpr):
    """The numbers of BITS that WORDS words of each row hold, [rows, words, numbers of a word] uint8."""
    word = block * WORDS + tl.arange(0, WORDS)
    mask = is_column[:, None] & (word < STRIDE)[None, :]
    found = tl.load(words + column[:, None] * STRIDE + word[None, :], mask=mask, other=0)
    shift = tl.arange(0, 32 // BITS) * BITS
    return (found[:, :, None] >> shift[None, None, :] & ((1 << BITS) - 1)).to(tl.uint8)


@triton.jit
def of_groups(
    factors,
    column,
    is_column,
    block,
    OUT: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDE: tl.constexpr,
    IN_BLOCK: tl.constexpr,
):
    """The scale, or its like, of each of SUPER numbers, [rows, SUPER] float32."""
    COUNT: tl.constexpr = SUPER // WIDE
    group = block * COUNT + tl.arange(0, COUNT)
    place = (group // IN_BLOCK * OUT)[None, :] + column[:, None]
    mask = is_column[:, None] & (group < GROUPS)[None, :]
    found = tl.load(factors + place * IN_BLOCK + (group % IN_BLOCK)[None, :], mask=mask, other=0).to(tl.float32)
    return tl.broadcast_to(found[:, :, None], [column.shape[0], COUNT, WIDE]).reshape(column.shape[0], SUPER)


@triton.jit
def dequantize_kernel(
    out,
    words,
    upper,
    scales,
    zeros,
    minimums,
    factors,
    WIDTH: tl.constexpr,
    OUT: tl.constexpr,
    BITS: tl.constexpr,
    GROUPS: tl.constexpr,
    WIDE: tl.constexpr,
    IN_BLOCK: tl.constexpr,
    OFFSET: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """A tile of the weight as it is: out [OUT, WIDTH]. Grid: (tiles of COLUMNS rows of it, tiles of SUPER columns).

    words: of the values, and upper, zeros, minimums, factors, or None: as GroupedWeights has them, interleaved."""
    wait_for_last(DEPENDENT)
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    is_column = column < OUT
    block = tl.program_id(1)
    if BITS == 8:
        each = unpacked_words(words, column, is_column, block, WIDTH // 4, SUPER // 4, 8)
        # Of blocks, threads, words, neighbours, and eights.
        each = each.reshape(COLUMNS, 4, 4, 4, 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(COLUMNS, SUPER)
        numbers = each.to(tl.int8, bitcast=True).to(tl.float32)
    else:
        each = unpacked_words(words, column, is_column, block, WIDTH // 8, SUPER // 8, 4)
        each = each.reshape(COLUMNS, 2, 4, 4, 2, 4).permute(0, 1, 3, 5, 2, 4).reshape(COLUMNS, SUPER)
        if upper is not None:
            STEP: tl.constexpr = BITS - 4
            above = unpacked_words(upper, column, is_column, block, WIDTH // 32 * STEP, SUPER // 32 * STEP, STEP)
            # Of threads, halves, words, neighbours, and eights of a word's numbers and of each 32.
            above = above.reshape(COLUMNS, 4, 2, STEP, 2, 4 // STEP, 4)
            each |= above.permute(0, 2, 3, 5, 6, 1, 4).reshape(COLUMNS, SUPER) << 4
        numbers = each.to(tl.float32) - OFFSET
    if zeros is not None:
        numbers -= of_groups(zeros, column, is_column, block, OUT, GROUPS, WIDE, IN_BLOCK)
    scale = of_groups(scales, column, is_column, block, OUT, GROUPS, WIDE, IN_BLOCK)
    KINDS: tl.constexpr = 1 if minimums is None else 2
    if factors is not None:
        places = factors + (block * OUT + column) * KINDS
        scale *= tl.load(places, mask=is_column, other=0).to(tl.float32)[:, None]
    numbers *= scale
    if minimums is not None:
        minimum = of_groups(minimums, column, is_column, block, OUT, GROUPS, WIDE, IN_BLOCK)
        if factors is not None:
            minimum *= tl.load(places + 1, mask=is_column, other=0).to(tl.float32)[:, None]
        numbers += minimum
    depth = block * SUPER + tl.arange(0, SUPER)
    mask = is_column[:, None] & (depth < WIDTH)[None, :]
    tl.store(out + column[:, None] * WIDTH + depth[None, :], numbers.to(out.dtype.element_ty), mask=mask)


def dequantize(weight: GroupedWeights, dtype: torch.dtype) -> Tensor:
    """[out, in] of that type, of an interleaved weight."""
    rows, width = weight.shape
    out = torch.empty(rows, width, dtype=dtype, device=weight.values.device)
    dequantize_kernel[(triton.cdiv(rows, _COLUMNS), triton.cdiv(width, formats.SUPER))](
        out,
        weight.values.view(torch.int32),
        None if weight.upper is None else weight.upper.view(torch.int32),
        weight.scales,
        weight.zeros,
        weight.minimums,
        weight.factors,
        WIDTH=width,
        OUT=rows,
        BITS=weight.bits,
        GROUPS=weight.scales.shape[1],
        WIDE=weight.group[1],
        IN_BLOCK=groups_in_block(weight),
        OFFSET=weight.offset,
        COLUMNS=_COLUMNS,
        **launch_options(out.device),
    )
    return out
