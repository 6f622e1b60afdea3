"""Drawing tokens by a race: token i arrives after an exponential time of rate p_i, and the first one is a sample of p.

This is the Gumbel-max trick (Gumbel 1954) without its second logarithm. The times are a hash of (seed, sample index,
position, token), so a sequence draws the same tokens in any batch, row, order or chunking, and a token that a filter
takes away leaves the others' times as they were."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from octavo_runtime.sampling.extremes import argmin

Words = npt.NDArray[np.uint64]

_MASK31 = 0x7FFFFFFF
_UNIFORM = 2.0**-31 * (1.0 - 2.0**-24)  # keeps the largest uniform number below 1 after rounding


def race_keys(seeds: Words, sample_indices: Sequence[int], positions: Sequence[int]) -> npt.NDArray[np.int32]:
    """31 bits for each draw [n] of (seed, sample index, position)."""
    mixed = _splitmix(seeds)
    mixed = _splitmix(mixed ^ np.array(sample_indices, dtype=np.uint64))
    mixed = _splitmix(mixed ^ np.array(positions, dtype=np.uint64))
    return (mixed >> np.uint64(33)).astype(np.int32)


class Race:
    """The racing times of a vocabulary."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        tokens = _splitmix(np.arange(vocab_size, dtype=np.uint64)) >> np.uint64(33)
        self.hashes = torch.from_numpy(tokens.astype(np.int32)).to(device)  # [vocab], 31 bits for each token

    def winners(self, weights: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Samples [n] int64 of the distributions proportional to `weights` [n, vocab] float32, for `keys` [n] int32.
        A token of weight 0 never wins while another has any."""
        return argmin(torch.div(weights, self.negative_times(keys)))

    def negative_times(self, keys: torch.Tensor) -> torch.Tensor:
        """-E [n, vocab], E exponential: log(1 - u) keeps its precision where u is small, which is where races are won.

        The hash has lowbias32's form (Wellons 2018), in 31 bits, since a signed integer's shift copies the sign."""
        bits = self.hashes ^ keys[:, None]
        bits.bitwise_xor_(bits >> 16)
        bits.mul_(0x7FEB352D).bitwise_and_(_MASK31)
        bits.bitwise_xor_(bits >> 15)
        bits.mul_(0x6CA68B45).bitwise_and_(_MASK31)
        bits.bitwise_xor_(bits >> 16)
        return bits.float().add_(0.5).mul_(-_UNIFORM).log1p_()


def _splitmix(words: Words) -> Words:
    """64 bits that depend on every bit of `words` (splitmix64; Steele et al. 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
