"""Small integers into the words that formats pack them in: the other way round than quantization.unpacking."""

import torch
from torch import Tensor


def pack_words(numbers: Tensor, bits: int) -> Tensor:
    """[..., n] int32 of [..., n * 32 / bits] numbers from 0 to 2**bits - 1, the lowest bits first."""
    each = numbers.long().unflatten(-1, (-1, 32 // bits))
    shifts = torch.arange(0, 32, bits, device=numbers.device)
    words = (each << shifts).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
