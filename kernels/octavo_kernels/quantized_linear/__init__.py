"""A projection by weights of 4 or 8 bits, whose groups of 32 columns share a scale and, of 4 bits, a minimum: what the
rows of GGUF's Q4_0, Q4_1 and Q8_0 hold.

For few rows, which wait for the weights to come from memory, and for CPUs alone, so without the other ops' Triton
form."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

GROUP = 32  # columns that share a scale
TILE = 32  # rows of the weight that are computed at once


@dataclass(frozen=True)
class PackedGroups:
    """A weight [out, in] in the order in which it is read: for each TILE rows and each GROUP columns their values, then
    the rows' scales, then, of 4 bits, their minimums, both in float16. The values come two columns at a time, row by
    row. Of 4 bits a byte holds the value of row i in its low half and of row i + TILE / 2 in its high half."""

    data: Tensor  # [tiles, groups, bytes] uint8
    bits: int
    out_features: int

    @property
    def in_features(self) -> int:
        return self.data.shape[1] * GROUP


def pack(values: Tensor, scales: Tensor, minimums: Tensor | None) -> PackedGroups:
    """Packs scale * value + minimum.

    Args:
        values: [out, in], uint8 from 0 to 15 where there are minimums, else int8.
        scales: [out, in / 32], rounded to float16.
        minimums: [out, in / 32], rounded to float16; None: all zero.
    """
    rows, columns = values.shape

    def tiles(matrix: Tensor, width: int) -> Tensor:
        """[tiles, groups, rows of a tile, width]; rows of zeros fill the last tile."""
        return pad(matrix, (0, 0, 0, -rows % TILE)).view(-1, TILE, columns // GROUP, width).transpose(1, 2)

    ordered = tiles(values, GROUP).unflatten(-1, (GROUP // 2, 2)).transpose(2, 3)  # [..., pairs, rows of a tile, 2]
    if minimums is not None:
        low, high = ordered.split(TILE // 2, dim=-2)
        ordered = low | high << 4
    parts = [ordered.contiguous().view(torch.uint8).flatten(2)]
    for factors in (scales, minimums):
        if factors is not None:
            parts.append(tiles(factors.half(), 1).contiguous().view(torch.uint8).flatten(2))
    return PackedGroups(torch.cat(parts, dim=-1), 8 if minimums is None else 4, rows)


def quantized_linear(x: Tensor, weight: PackedGroups, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias.

    Args:
        x: [rows, in] float32, few rows.
        weight: [out, in].
        bias: [out] float32.

    Returns:
        [rows, out] float32.
    """
    from octavo_kernels.quantized_linear import cpu

    return cpu.quantized_linear(x, weight, bias)
