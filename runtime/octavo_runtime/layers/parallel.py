"""What ranks compute of a layer together (Shoeybi et al. 2019): each has some of the rows of one projection, and the
columns of the next, which brings a part of a sum. The norm that reads the sum next has it made."""

from dataclasses import dataclass

from torch import Tensor

from octavo_kernels.peer_sum import fits, peer_sum_add_rms_norm
from octavo_runtime.distributed.group import Group
from octavo_runtime.layers.lm_head import Head
from octavo_runtime.layers.norm import Norm, RMSNorm


@dataclass(frozen=True)
class SummingNorm:
    """A Norm of the residual stream to which is added what the ranks bring together, of which each knows a part."""

    norm: Norm
    group: Group

    @property
    def num_bytes(self) -> int:
        return self.norm.num_bytes

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """See Norm; added: this rank's part."""
        norm, peers = self.norm, self.group.peers
        if added is None:
            return norm(stream)
        if peers is not None and isinstance(norm, RMSNorm) and fits(added, peers):
            return peer_sum_add_rms_norm(added, stream, norm.weight, norm.eps, peers, norm.multiplier, norm.offset)
        return norm(stream, self.group.sum(added))


@dataclass(frozen=True)
class NormOfSum:
    """A Norm of what the ranks bring together, of which each knows a part."""

    norm: Norm
    group: Group

    @property
    def num_bytes(self) -> int:
        return self.norm.num_bytes

    def __call__(self, stream: Tensor, added: Tensor | None = None) -> Tensor:
        """See Norm; stream: this rank's part."""
        return self.norm(self.group.sum(stream), added)


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
