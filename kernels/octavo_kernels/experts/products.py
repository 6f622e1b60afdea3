"""The weights of all experts as kernels in Triton get them, and a product with one expert's: of many rows by matrix
units, and of one row without."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.experts import PackedWeights, StackedGroups, Weights
from octavo_kernels.experts.mxfp4 import mxfp4
from octavo_kernels.grouped_linear.stored_weights import Form, Stored, form, stored, unpacked, unpacked_halves


class Stacked(NamedTuple):
    """A projection of all experts as the kernels get it: [experts, out, in] in the states' type, `PackedWeights`, or
    `StackedGroups`."""

    weight: Tensor | Stored
    scales: Tensor | None  # of PackedWeights
    biases: Tensor | None  # [experts, out]


def stacked_weights(weights: Weights, biases: Tensor | None) -> Stacked:
    if isinstance(weights, StackedGroups):
        return Stacked(stored(weights.weight), None, biases)
    if isinstance(weights, PackedWeights):
        return Stacked(weights.blocks, weights.scales, biases)
    assert isinstance(weights, Tensor)
    return Stacked(weights, None, biases)


def stacked_form(weights: Weights) -> Form | None:
    return form(weights.weight) if isinstance(weights, StackedGroups) else None


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
    depth = first + tl.arange(0, DEPTH)
    inside = depth < WIDTH
    x = tl.load(states[:, None] + depth[None, :], mask=is_row[:, None] & inside[None, :], other=0.0)
    w = numbers(stacked, column, is_column, first, WIDTH, DEPTH, FORM)
    return tl.dot(x, w.to(x.dtype), total, input_precision="ieee")


@triton.jit
def numbers(
    stacked,  # as for `product`, with the rest
    column,
    is_column,
    first,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    FORM: tl.constexpr,
):
    """What the weights of `DEPTH` terms stand for, [DEPTH, COLUMNS] of any float."""
    depth = first + tl.arange(0, DEPTH)
    there = (depth < WIDTH)[:, None] & is_column[None, :]
    if FORM is None and stacked.scales is None:
        found = tl.load(stacked.weight + column[None, :] * WIDTH + depth[:, None], mask=there, other=0.0)
    elif FORM is None:
        found = together(mxfp4(stacked, column, is_column, first, WIDTH, DEPTH))
    elif FORM.bits < 8:
        found = together(unpacked_halves(stacked.weight, column, is_column, first, WIDTH, DEPTH, FORM))
    else:
        values = tl.load(stacked.weight.stored + column[None, :] * WIDTH + depth[:, None], mask=there, other=0)
        found = unpacked(values, stacked.weight, depth, first, column, there, is_column, DEPTH, FORM)
    return found


@triton.jit
def together(halves):
    """[depth, columns] of the terms that share bytes, first and second ones, each [depth / 2, columns]."""
    low, high = halves
    return tl.join(low, high).permute(0, 2, 1).reshape(2 * low.shape[0], low.shape[1])


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
        x = tl.load(state + depth, mask=depth < WIDTH, other=0.0).to(tl.float32)[:, None]
        total += x * numbers(stacked, column, is_column, first, WIDTH, DEPTH, FORM).to(tl.float32)
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
def bias_of(stacked, column, is_column):
    """[1, COLUMNS] float32. Arguments as for `product`."""
    return tl.load(stacked.biases + column, mask=is_column, other=0.0).to(tl.float32)[None, :]
