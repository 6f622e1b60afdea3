"""A matrix of numbers of few bits times the scales of their groups: what all quantised formats become."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from octavo_kernels.quantized_linear import GROUP
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix
from octavo_runtime.quantization.scheme import Values


@dataclass(frozen=True)
class GroupedMatrix:
    """(value - zero) * scale, where there is a codebook codebook[value] * scale; plus outliers."""

    values: Tensor  # [rows, columns]: uint8 from 0 to 15 of 4 bits; of 8 bits int8 or float8_e4m3fn
    scales: Tensor  # [groups of rows, groups of columns] float32
    group: tuple[int, int]  # rows and columns that share a scale
    zeros: Tensor | None = None  # [rows, groups of columns] float32
    codebook: Tensor | None = None  # [16] or [rows, 16] float32
    order: Tensor | None = None  # [columns] int64: the input channel that a column is of; None: its own
    outliers: Tensor | None = None  # sparse [rows, columns] float32
    rounds_inputs: bool = False  # a product of many rows may round what it is multiplied by to 8 bits as well

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[rows, columns], computed in float32, the columns in the order of the input's channels."""
        rows, columns = self.values.shape
        numbers = self._numbers()
        if self.zeros is not None:
            numbers -= self.zeros.repeat_interleave(self.group[1], dim=1)[:, :columns]
        scales = self.scales.repeat_interleave(self.group[0], dim=0)[:rows]
        numbers *= scales.repeat_interleave(self.group[1], dim=1)[:, :columns]
        if self.order is not None:
            numbers = torch.empty_like(numbers).index_copy_(1, self.order, numbers)
        return (numbers if self.outliers is None else numbers + self.outliers.to_dense()).to(dtype)

    def rows(self, order: Tensor) -> "GroupedMatrix":
        """The rows that `order` [rows] int64 names. Where they are whole groups of rows, these keep their scales."""
        groups = order[:: self.group[0]] // self.group[0]
        in_groups = (groups.unsqueeze(1) * self.group[0] + torch.arange(self.group[0])).flatten()[: len(order)]
        are_whole = in_groups.equal(order)
        one = self if are_whole else self.with_scales_of_rows()
        return replace(
            one,
            values=one.values.view(torch.uint8)[order].view(one.values.dtype),
            scales=one.scales[groups if are_whole else order],
            zeros=None if one.zeros is None else one.zeros[order],
            codebook=one.codebook if one.codebook is None or one.codebook.dim() == 1 else one.codebook[order],
            outliers=None if one.outliers is None else one.outliers.index_select(0, order.to(one.outliers.device)),
        )

    def split(self, count: int) -> "list[GroupedMatrix]":
        """So many matrices of as many rows each, in their order."""
        return [self.rows(order) for order in torch.arange(len(self.values)).chunk(count)]

    def columns(self, first: int, count: int) -> "GroupedMatrix | None":
        """Columns that lie side by side; None where they are not whole groups, or not in the input's order."""
        wide = self.group[1]
        is_one = self.scales.shape[1] == 1
        if self.order is not None or self.outliers is not None or (not is_one and (first % wide or count % wide)):
            return None
        groups = slice(None) if is_one else slice(first // wide, (first + count) // wide)
        return replace(
            self,
            values=self.values[:, first : first + count].contiguous(),
            scales=self.scales[:, groups].contiguous(),
            group=(self.group[0], count) if is_one else self.group,
            zeros=None if self.zeros is None else self.zeros[:, groups].contiguous(),
        )

    def with_scales_of_rows(self) -> "GroupedMatrix":
        """The same, with scales of each row where several rows share them."""
        high, wide = self.group
        if high == 1:
            return self
        return replace(self, scales=self.scales.repeat_interleave(high, dim=0)[: len(self.values)], group=(1, wide))

    def in_groups_of_32(self) -> QuantizedMatrix | None:
        """The form that a CPU's loops for few rows compute with; None where it has none."""
        wide, columns = self.group[1], self.values.shape[1]
        plain = self.order is None and self.codebook is None and self.outliers is None
        whole = self.group[0] == 1 and columns % GROUP == 0 and (wide % GROUP == 0 or wide >= columns)
        has_zeros = self.zeros is not None
        if not plain or not whole or self.values.dtype != (torch.uint8 if has_zeros else torch.int8):
            return None

        def repeated(factors: Tensor) -> Tensor:
            return factors.repeat_interleave(-(-wide // GROUP), dim=1)[:, : columns // GROUP].contiguous()

        minimums = None if self.zeros is None else repeated(-self.scales * self.zeros)
        return QuantizedMatrix(self.values, repeated(self.scales), minimums)

    def _numbers(self) -> Tensor:
        """What the values stand for, [rows, columns] float32."""
        if self.codebook is None:
            return self.values.float()
        if self.codebook.dim() == 1:
            return self.codebook[self.values.long()]
        return self.codebook.gather(1, self.values.long())


def concatenate_groups(parts: Sequence[GroupedMatrix]) -> GroupedMatrix | None:
    """The parts' rows, one part under another; None where they are not of one kind, as with orders of their own."""
    first = parts[0]
    high = first.group[0]
    if any(part.group != first.group for part in parts) or any(len(part.values) % high for part in parts[:-1]):
        parts = [part.with_scales_of_rows() for part in parts]
    if any(not _are_alike(part, parts[0]) for part in parts):
        return None
    outliers = [part.outliers for part in parts if part.outliers is not None]
    if len(outliers) not in (0, len(parts)):
        return None
    codebooks = [part.codebook for part in parts if part.codebook is not None]
    if codebooks and any(not codebook.equal(codebooks[0]) for codebook in codebooks):
        codebooks = [part.codebook.expand(len(part.values), 16) for part in parts if part.codebook is not None]
    elif codebooks and codebooks[0].dim() == 1:
        codebooks = codebooks[:1]
    zeros = [part.zeros for part in parts if part.zeros is not None]
    return GroupedMatrix(
        torch.cat([part.values.view(torch.uint8) for part in parts]).view(first.values.dtype),
        torch.cat([part.scales for part in parts]),
        parts[0].group,
        torch.cat(zeros) if zeros else None,
        torch.cat(codebooks) if codebooks else None,
        parts[0].order,
        torch.cat(outliers) if outliers else None,
        all(part.rounds_inputs for part in parts),
    )


def quantize_rows(weight: Tensor, values: Values) -> GroupedMatrix:
    """A weight [rows, columns] in 8 bits, FP8 (e4m3) or integers, with a scale of each row that its greatest number
    needs."""
    weight = weight.float()
    most = 448.0 if values == "fp8" else 127.0
    scales = (weight.abs().amax(dim=1, keepdim=True) / most).clamp(min=1e-10)
    numbers = weight / scales
    stored = numbers.to(torch.float8_e4m3fn) if values == "fp8" else numbers.round_().to(torch.int8)
    return GroupedMatrix(stored, scales, (1, weight.shape[1]), rounds_inputs=values == "fp8")


def _are_alike(one: GroupedMatrix, other: GroupedMatrix) -> bool:
    same_order = one.order is other.order or (
        one.order is not None and other.order is not None and one.order.equal(other.order)
    )
    kinds = (
        (part.values.dtype, part.group, part.zeros is None, part.codebook is None, part.values.shape[1])
        for part in (one, other)
    )
    return same_order and len(set(kinds)) == 1
