"""A projection by weights of few bits times the scales of their groups, unpacked on their way to the product.

What the formats of quantised checkpoints come down to: integers of 4 and 8 bits, FP8, and 4 bits that a codebook
explains."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from octavo_kernels.gpu import capability
from octavo_kernels.int8_linear import int8_linear, multiplies_int8


@dataclass(frozen=True)
class GroupedWeights:
    """A weight [out, in]: (value - zero) * scale; where there is a codebook, codebook[value] * scale. All contiguous.

    values: of 8 bits [out, in], int8 or float8_e4m3fn; of 4 bits [out, in / 2] uint8, where a byte holds two
    neighbours, the first in its low half. scales: [groups of rows, groups of columns], any float. group: the rows and
    columns of one. zeros: [out, groups of columns], any float, with groups of one row. codebook: [16] or [out, 16],
    any float."""

    values: Tensor
    scales: Tensor
    group: tuple[int, int]
    zeros: Tensor | None = None
    codebook: Tensor | None = None

    @property
    def bits(self) -> int:
        return 4 if self.values.dtype == torch.uint8 else 8

    @property
    def shape(self) -> tuple[int, int]:
        rows, width = self.values.shape
        return rows, width * 8 // self.bits

    @property
    def nbytes(self) -> int:
        parts = self.values, self.scales, self.zeros, self.codebook
        return sum(part.nbytes for part in parts if part is not None)

    def rows(self, first: int, count: int) -> "GroupedWeights":
        """So many rows, which share this one's memory: `first` is the first of a group."""
        end, high = first + count, self.group[0]
        has_own_books = self.codebook is not None and self.codebook.dim() == 2
        return replace(
            self,
            values=self.values[first:end],
            scales=self.scales[first // high : -(-end // high)],
            zeros=None if self.zeros is None else self.zeros[first:end],
            codebook=self.codebook[first:end] if self.codebook is not None and has_own_books else self.codebook,
        )


def grouped_linear(x: Tensor, weight: GroupedWeights, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, summed in float32; the same inputs bring the same bits, and nothing waits for the device.

    Args:
        x: [rows, in], contiguous.
        weight: [out, in].
        bias: [out], of x's dtype.
        out: [rows, out], contiguous, where to write; allocated if None.

    Returns:
        [rows, out], in x's dtype.
    """
    if x.device.type == "cuda":
        from octavo_kernels.grouped_linear import hopper, triton

        if capability(x.device) == (9, 0) and hopper.fits(x, weight):
            return hopper.grouped_linear(x, weight, bias, out)
        return triton.grouped_linear(x, weight, bias, out)
    from octavo_kernels.grouped_linear import cpu

    return cpu.grouped_linear(x, weight, bias, out)


def rounded_linear(x: Tensor, weight: GroupedWeights, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """grouped_linear of x rounded to the weight's 8 bits, FP8 (e4m3) or int8, each row with a scale of its own, where
    `multiplies_rounded` says so: for many rows GPUs multiply twice as many such numbers as of 16 bits."""
    if weight.values.dtype == torch.int8:
        return int8_linear(x, weight.values, weight.scales.flatten(), bias, out)
    from octavo_kernels.grouped_linear import fp8_inputs

    return fp8_inputs.grouped_linear(x, weight, bias, out)


def multiplies_rounded(weight: GroupedWeights, dtype: torch.dtype) -> bool:
    """Whether there is a product of 8 bits by 8 bits for a weight on its device, with a scale for each row: of int8,
    and from Ada on of FP8 with results in bfloat16."""
    values, width = weight.values, weight.shape[1]
    if values.device.type != "cuda" or weight.group != (1, width) or weight.zeros is not None:
        return False
    if values.dtype == torch.int8:
        return multiplies_int8(values, dtype)
    is_fp8 = values.dtype == torch.float8_e4m3fn and capability(values.device) >= (8, 9)
    return is_fp8 and dtype == torch.bfloat16 and width % 16 == 0 and len(values) % 16 == 0


def pack_halves(values: Tensor) -> Tensor:
    """[rows, columns / 2] uint8 of [rows, columns] uint8 from 0 to 15, as GroupedWeights holds them."""
    return values[:, ::2] | values[:, 1::2] << 4
