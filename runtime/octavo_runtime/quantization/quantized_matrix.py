"""A matrix in groups of few bits, the form that GGUF's Q4_0, Q4_1 and Q8_0 share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.quantized_linear import GROUP


@dataclass(frozen=True)
class QuantizedMatrix:
    """[rows, columns] where each row's groups of 32 columns share a scale, and of 4 bits a minimum:
    scale * value + minimum."""

    values: Tensor  # [rows, columns] uint8 from 0 to 15, or int8 where there are no minimums
    scales: Tensor  # [rows, columns / 32] float32, as all numbers here within float16
    minimums: Tensor | None  # [rows, columns / 32] float32

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def dequantize(self) -> Tensor:
        """[rows, columns] float32."""
        grouped: Tensor = self.values.float().unflatten(1, (-1, GROUP))
        scaled = grouped * self.scales.unsqueeze(-1)
        if self.minimums is not None:
            scaled += self.minimums.unsqueeze(-1)
        return scaled.flatten(1)

    def rows(self, order: Tensor) -> "QuantizedMatrix":
        """The rows that `order` [rows] int64 names."""
        minimums = None if self.minimums is None else self.minimums[order]
        return QuantizedMatrix(self.values[order], self.scales[order], minimums)


def concatenate(parts: Sequence[QuantizedMatrix]) -> QuantizedMatrix | None:
    """The parts' rows, one part under another; None where some have minimums and others have none."""
    minimums = [part.minimums for part in parts if part.minimums is not None]
    if len(minimums) not in (0, len(parts)):
        return None
    return QuantizedMatrix(
        torch.cat([part.values for part in parts]),
        torch.cat([part.scales for part in parts]),
        torch.cat(minimums) if minimums else None,
    )
