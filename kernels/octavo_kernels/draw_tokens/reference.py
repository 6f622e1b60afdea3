"""The oracle of draw_tokens."""

import torch
from torch import Tensor

from octavo_kernels.draw_tokens import Newest

_MASK = 0x7FFFFFFF
_UNIFORM = 2.0**-31 * (1.0 - 2.0**-24)  # keeps the largest uniform number below 1 after rounding


def draw_tokens(
    scores: Tensor,
    temperatures: Tensor,
    keys: Tensor,
    hashes: Tensor,
    out: Tensor | None = None,
    newest: Newest | None = None,
) -> Tensor:
    """See `octavo_kernels.draw_tokens`."""
    drawn = noised(scores, temperatures, keys, hashes).argmax(dim=-1)
    if newest is not None:
        newest.tokens[newest.rows.long()] = drawn
    return drawn if out is None else out.copy_(drawn)


def noised(scores: Tensor, temperatures: Tensor, keys: Tensor, hashes: Tensor) -> Tensor:
    """What the winner has most of, [draws, vocab] float32.

    The hash has lowbias32's form (Wellons, 2018), in 31 bits."""
    bits = (hashes ^ keys[:, None]).long()
    bits ^= bits >> 16
    bits = bits * 0x7FEB352D & _MASK
    bits ^= bits >> 15
    bits = bits * 0x6CA68B45 & _MASK
    bits ^= bits >> 16
    times = -torch.log1p(-((bits.float() + 0.5) * _UNIFORM))
    temperature = temperatures[:, None]
    return torch.where(temperature > 0, scores.float() / temperature - times.log(), scores.float())
