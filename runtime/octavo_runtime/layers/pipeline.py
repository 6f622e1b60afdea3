"""The ends of a stage of a pipeline: what stands there in the place of the embedding, and of the norm behind the last
layer."""

from dataclasses import dataclass

from torch import Tensor

from octavo_runtime.distributed.group import Link
from octavo_runtime.layers.embedding import stream_type


@dataclass(frozen=True)
class Received:
    """The residual stream as the stage before leaves it. weight: [0, hidden], no word's, in the type of the layers' and
    on their device."""

    weight: Tensor
    link: Link
    num_bytes: int = 0

    def __call__(self, token_ids: Tensor, _: Tensor) -> Tensor:
        """[tokens, hidden] of [tokens], whatever they are."""
        stream = self.weight.new_empty(len(token_ids), self.weight.shape[1], dtype=stream_type(self.weight))
        return self.link.receive(stream)


@dataclass(frozen=True)
class PassedOn:
    """The residual stream, which the next stage goes on with. multiplier: of what is added to it."""

    link: Link
    multiplier: float = 1.0
    num_bytes: int = 0

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """See Norm."""
        if added is not None:
            stream.add_(added, alpha=self.multiplier)
        self.link.send(stream)
        return stream
