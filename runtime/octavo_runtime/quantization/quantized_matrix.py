"""Matrices in groups of few bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.quantized_linear import Factors, dequantized
from octavo_kernels.quantized_linear.formats import EIGHT_BITS, FOUR_BITS, SUPER, Format


@dataclass(frozen=True)
class QuantizedMatrix:
    """[rows, columns] where groups of a row's columns share a scale, and some a minimum: scale * (value - offset) +
    minimum. form: see octavo_kernels.quantized_linear.formats; None: 4 bits where there are minimums, else 8."""

    values: Tensor  # [rows, columns] uint8, of 8 bits int8
    scales: Tensor  # [rows, columns / group] float32 within float16; nested whole numbers
    minimums: Tensor | None  # likewise
    form: Format | None = None
    factors: Factors | None = None  # of nested scales

    @property
    def format(self) -> Format:
        return self.form or (EIGHT_BITS if self.minimums is None else FOUR_BITS)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[rows, columns], to the last bit in float32."""
        form = self.format
        if dtype != torch.float32:
            scales = self._scaled(self.scales, None if self.factors is None else self.factors.scales).squeeze(-1)
            minimums = self.minimums
            if minimums is not None:
                minimums = self._scaled(minimums, None if self.factors is None else self.factors.minimums).squeeze(-1)
            return dequantized(self.values, scales, minimums, form, dtype)
        if form.numbers is None:
            numbers = self.values.float()
        else:
            numbers = torch.tensor(form.numbers, dtype=torch.float32)[self.values.int()]
        grouped: Tensor = (numbers - form.offset if form.offset else numbers).unflatten(1, (-1, form.group))
        scaled = grouped * self._scaled(self.scales, None if self.factors is None else self.factors.scales)
        if self.minimums is not None:
            scaled += self._scaled(self.minimums, None if self.factors is None else self.factors.minimums)
        return scaled.flatten(1)

    def rows(self, order: Tensor) -> "QuantizedMatrix":
        """The rows that `order` [rows] int64 names."""

        def of(each: Tensor | None) -> Tensor | None:
            return None if each is None else each[order]

        factors = None if self.factors is None else Factors(self.factors.scales[order], of(self.factors.minimums))
        return QuantizedMatrix(self.values[order], self.scales[order], of(self.minimums), self.form, factors)

    def columns(self, first: int, count: int) -> "QuantizedMatrix | None":
        """Columns that lie side by side; None where they are not whole blocks."""
        form = self.format
        if first % form.columns or count % form.columns:
            return None

        def some(each: Tensor, size: int) -> Tensor:
            return each[:, first // size : (first + count) // size]

        def of(each: Tensor | None, size: int) -> Tensor | None:
            return None if each is None else some(each, size)

        factors = None
        if self.factors is not None:
            factors = Factors(some(self.factors.scales, SUPER), of(self.factors.minimums, SUPER))
        scales, minimums = some(self.scales, form.group), of(self.minimums, form.group)
        return QuantizedMatrix(some(self.values, 1), scales, minimums, self.form, factors)

    def split(self, count: int) -> "list[QuantizedMatrix]":
        """So many matrices of as many rows each, in their order; they share this one's memory."""

        def of(each: Tensor | None) -> Sequence[Tensor | None]:
            return (None,) * count if each is None else each.chunk(count)

        factors: Sequence[Factors | None] = (None,) * count
        if self.factors is not None:
            of_factors = zip(self.factors.scales.chunk(count), of(self.factors.minimums), strict=True)
            factors = [Factors(scales, minimums) for scales, minimums in of_factors]
        parts = zip(self.values.chunk(count), self.scales.chunk(count), of(self.minimums), factors, strict=True)
        return [QuantizedMatrix(values, scales, minimums, self.form, own) for values, scales, minimums, own in parts]

    def _scaled(self, each: Tensor, factors: Tensor | None) -> Tensor:
        """[rows, groups, 1] float32."""
        wide = each.float()
        if factors is not None:
            wide = wide * factors.float().repeat_interleave(self.format.groups, dim=1)
        return wide.unsqueeze(-1)


@dataclass(frozen=True)
class QuantizedRows:
    """Matrices of several formats, one under another."""

    parts: tuple[QuantizedMatrix, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[rows, columns], to the last bit in float32."""
        return torch.cat([part.dequantize(dtype) for part in self.parts])

    def rows(self, order: Tensor) -> "QuantizedRows":
        """The rows that `order` [rows] int64 names, of which none leaves its part."""
        counts = [part.shape[0] for part in self.parts]
        ordered, first = [], 0
        for part, own in zip(self.parts, order.split(counts), strict=True):
            ordered.append(part.rows(own - first))
            first += part.shape[0]
        return QuantizedRows(tuple(ordered))


Quantized = QuantizedMatrix | QuantizedRows


def concatenate(parts: Sequence[QuantizedMatrix]) -> Quantized:
    """The parts' rows, one part under another."""
    if len({part.format for part in parts}) > 1:
        return QuantizedRows(tuple(parts))

    def together(each: Sequence[Tensor | None]) -> Tensor | None:
        found = [tensor for tensor in each if tensor is not None]
        return torch.cat(found) if found else None

    nested = [part.factors for part in parts if part.factors is not None]
    return QuantizedMatrix(
        torch.cat([part.values for part in parts]),
        torch.cat([part.scales for part in parts]),
        together([part.minimums for part in parts]),
        parts[0].form,
        Factors(torch.cat([each.scales for each in nested]), together([each.minimums for each in nested]))
        if nested
        else None,
    )
