"""What ranks compute of a layer together (Shoeybi et al. 2019): each has some of the columns of one projection, and
the rows of the next."""

from dataclasses import dataclass

from torch import Tensor

from octavo_runtime.distributed.group import Group
from octavo_runtime.layers.linear import Linear
from octavo_runtime.layers.lm_head import Head


@dataclass(frozen=True)
class SummedLinear:
    """A projection of which each rank has some of the columns: a Linear whose results are summed over the ranks."""

    columns: Linear
    group: Group

    @property
    def num_bytes(self) -> int:
        return self.columns.num_bytes

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        return self.group.sum(self.columns(x, out))


@dataclass(frozen=True)
class GatheredHead:
    """An output head of which each rank has the scores of some words; vocab: how many there are of all ranks, what the
    last rank has beyond them left out."""

    words: Head
    vocab: int
    group: Group

    @property
    def num_bytes(self) -> int:
        return self.words.num_bytes

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, vocab]."""
        return self.group.gather(self.words(x))[:, : self.vocab]
