"""A projection by weights of 4 to 8 bits in groups that share a scale: what the rows of GGUF's quantised types hold
(`formats`).

For few rows, which wait for the weights to come from memory, and for CPUs alone, so without the other ops' Triton
form."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.quantized_linear.formats import EIGHT_BITS, FOUR_BITS, Format

GROUP = 32  # columns that share a scale in most formats
TILE = 32  # rows of the weight that are computed at once


@dataclass(frozen=True)
class Factors:
    """What nested scales, and minimums if there are some, are multiplied by: [out, in / 256] each, within float16."""

    scales: Tensor
    minimums: Tensor | None = None


@dataclass(frozen=True)
class PackedGroups:
    """A weight [out, in] in the order in which it is read: of each TILE rows a block, then their next, to the end of
    the rows.

    A block begins with the rows' factors in float16, where scales are nested: those of scales, then those of minimums.
    Then comes one group after another: its values, the rows' scales, the rows' minimums; these are of float16, or
    nested of 8 bits. Values come two columns at a time, row by row. Of 4 bits a byte holds the value of row i in its
    low half and of row i + TILE / 2 in its high half. Of 5 and 6 bits the upper ones lie before the lower four: a byte
    for each row and each column of a pair holds those of eight or four pairs, the first in its lowest bits."""

    data: Tensor  # [tiles, blocks, bytes] uint8
    format: Format
    out_features: int
    numbers: Tensor | None = None  # those of the format, [16] int8

    @property
    def in_features(self) -> int:
        return self.data.shape[1] * self.format.columns


def pack(
    values: Tensor,
    scales: Tensor,
    minimums: Tensor | None,
    form: Format | None = None,
    factors: Factors | None = None,
) -> PackedGroups:
    """Packs scale * (value - offset) + minimum.

    Args:
        values: [out, in], uint8 below 2 ** bits, of 8 bits int8.
        scales: [out, in / group], rounded to float16; nested whole numbers from -128 to 127.
        minimums: [out, in / group], rounded to float16; nested whole numbers from 0 to 255; None: all zero.
        form: None: 4 bits where there are minimums, else 8.
        factors: of nested scales.
    """
    from octavo_kernels.quantized_linear import cpu

    return cpu.pack(values, scales, minimums, form or (EIGHT_BITS if minimums is None else FOUR_BITS), factors)


def dequantized(values: Tensor, scales: Tensor, minimums: Tensor | None, form: Format, dtype: torch.dtype) -> Tensor:
    """scale * (value - offset) + minimum, [out, in] of a type of 16 bits. values: see pack. scales, minimums:
    [out, in / group] float32, their factors in them."""
    from octavo_kernels.quantized_linear import cpu

    return cpu.dequantized(values, scales, minimums, form, dtype)


def quantized_linear(x: Tensor, weight: PackedGroups, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias.

    Args:
        x: [rows, in] float32, few rows.
        weight: [out, in].
        bias: [out] float32.
        out: [rows, at least out, filled up to whole tiles] float32, where to write, the last dimension contiguous; what
            lies behind the product may be overwritten up to the end of a tile. Allocated if None.

    Returns:
        [rows, out] float32.
    """
    from octavo_kernels.quantized_linear import cpu

    return cpu.quantized_linear(x, weight, bias, out)


def side_by_side(x: Tensor, weights: Sequence[PackedGroups], biases: Sequence[Tensor | None] | None = None) -> Tensor:
    """quantized_linear's products of x [rows, in] by several weights [out, in], whatever their formats: [rows, sum of
    out]. biases: one or none for each weight; None: none at all."""
    columns, last = sum(weight.out_features for weight in weights), weights[-1].out_features
    products = x.new_empty(x.shape[0], columns - last + -(-last // TILE) * TILE)
    first = 0
    for index, weight in enumerate(weights):  # in order: each may write into the next one's
        quantized_linear(x, weight, None if biases is None else biases[index], products[:, first:])
        first += weight.out_features
    return products[:, :columns]


def unpacked_rows(weight: PackedGroups, rows: Tensor) -> Tensor:
    """The rows [n] int64 of the weight: [n, in] float32."""
    from octavo_kernels.quantized_linear import cpu

    return cpu.unpacked_rows(weight, rows)
