"""A matrix in 4-bit groups, the form that GGUF's Q4_0 and Q4_1 share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 32


@dataclass(frozen=True)
class Int4Groups:
    """[rows, columns] where each row's groups of 32 columns share a scale and a minimum: scale * value + minimum."""

    values: Tensor  # [rows, columns] uint8, 0 to 15
    scales: Tensor  # [rows, columns / 32] float32
    minimums: Tensor  # [rows, columns / 32] float32

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def dequantize(self) -> Tensor:
        """[rows, columns] float32."""
        grouped = self.values.float().unflatten(1, (-1, GROUP))
        return torch.addcmul(self.minimums.unsqueeze(-1), grouped, self.scales.unsqueeze(-1)).flatten(1)

    def rows(self, order: Tensor) -> "Int4Groups":
        """The rows that `order` [rows] int64 names."""
        return Int4Groups(self.values[order], self.scales[order], self.minimums[order])


def concatenate(parts: Sequence[Int4Groups]) -> Int4Groups:
    """The parts' rows, one part under another."""
    return Int4Groups(
        torch.cat([part.values for part in parts]),
        torch.cat([part.scales for part in parts]),
        torch.cat([part.minimums for part in parts]),
    )
