"""Small integers out of the words that formats pack them in."""

import torch
from torch import Tensor


def unpack_words(words: Tensor, bits: int) -> Tensor:
    """[..., n * 32 / bits] uint8 of [..., n] int32, the lowest bits first; of 4 bits each, or of 8."""
    data = words.contiguous().view(torch.uint8)
    return data if bits == 8 else unpack_halves(data)


def unpack_halves(data: Tensor, *, high_first: bool = False) -> Tensor:
    """[..., 2 * n] uint8 from 0 to 15 of [..., n] uint8."""
    halves = (data >> 4, data & 15) if high_first else (data & 15, data >> 4)
    return torch.stack(halves, dim=-1).flatten(-2)


def centred(values: Tensor, bits: int) -> Tensor:
    """Of 8 bits, what stands for 0 to 255 as int8, less 128; of 4 bits as it is."""
    return values if bits == 4 else (values ^ 128).view(torch.int8)


def centred_zeros(zeros: Tensor, bits: int) -> Tensor | None:
    """The zero points, float32, of centred values; None where those of 8 bits are all 0."""
    shifted = zeros.float() - (128 if bits == 8 else 0)
    return None if bits == 8 and not shifted.any() else shifted
