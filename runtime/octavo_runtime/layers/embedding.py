"""Tokens to vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from octavo_runtime.layers.linear import Linear
from octavo_runtime.layers.norm import Norm


@dataclass(frozen=True)
class Embedding:
    """weight: [vocab, hidden], or of other vectors that `projection` makes hidden of. multiplier: of what is looked up.
    positions: [positions, hidden], learned ones, of which the row of position + offset is added. norm: of the sum."""

    weight: Tensor
    multiplier: float = 1.0
    positions: Tensor | None = None
    offset: int = 0
    norm: Norm | None = None
    projection: Linear | None = None

    @property
    def num_bytes(self) -> int:
        positions = 0 if self.positions is None else self.positions.nbytes
        parts = self.norm, self.projection
        return self.weight.nbytes + positions + sum(part.num_bytes for part in parts if part is not None)

    def __call__(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """[tokens, hidden] of [tokens] each, the beginning of the residual stream."""
        embedded = functional.embedding(token_ids, self.weight)
        embedded = embedded if self.projection is None else self.projection(embedded)
        embedded = embedded.to(stream_type(self.weight))
        embedded = embedded if self.multiplier == 1.0 else embedded * self.multiplier
        if self.positions is not None:
            embedded = embedded + functional.embedding(positions + self.offset, self.positions)
        return embedded if self.norm is None else self.norm(embedded).to(embedded.dtype)


def stream_type(weight: Tensor) -> torch.dtype:
    """The type of the residual stream between layers of weights of that type. On a CPU it is float32: adding to the
    stream in 16 bits costs most of the accuracy (docs/adr/0001)."""
    return torch.float32 if weight.device.type == "cpu" else weight.dtype
