"""Tokens to vectors."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Embedding:
    """weight: [vocab, hidden]. multiplier: of what is looked up."""

    weight: Tensor
    multiplier: float = 1.0

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes

    def __call__(self, token_ids: Tensor) -> Tensor:
        """[tokens, hidden], the beginning of the residual stream. On a CPU it is float32: adding to the stream in 16
        bits costs most of the accuracy (docs/adr/0001)."""
        embedded = functional.embedding(token_ids, self.weight)
        embedded = embedded.float() if embedded.device.type == "cpu" else embedded
        return embedded if self.multiplier == 1.0 else embedded * self.multiplier
