"""Numbers in 8 bits, FP8 (e4m3) or int8, in torch: keys and values with a scale for each head, rows with one each."""

import torch
from torch import Tensor

LARGEST = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}


def spread_scales(kv_heads: int) -> Tensor:
    """Scales [2, kv_heads] to check kernels with, for numbers of about 1: powers of two, by which all forms divide
    alike to the last bit."""
    exponents = 4 + torch.arange(2 * kv_heads) % 3
    return torch.exp2(-exponents.float()).view(2, kv_heads)


def in_eight_bits(heads: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """heads: [..., kv_heads, head_dim], any float; scale: [kv_heads] float32."""
    numbers = (heads.float() / scale.unsqueeze(-1)).clamp(-LARGEST[dtype], LARGEST[dtype])
    return (numbers.round() if dtype == torch.int8 else numbers).to(dtype)


def from_eight_bits(stored: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The heads again, in `dtype`. Arguments as for in_eight_bits."""
    return (stored.float() * scale.unsqueeze(-1)).to(dtype)


def round_rows(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of x [rows, width]: [rows, width] in `dtype`, and the rows' scales, float32 [rows, 1]: what the largest number of
    a row is over the largest in 8 bits."""
    largest = x.float().abs().amax(dim=1, keepdim=True)
    # A GPU would multiply by the inverse of a float.
    scales = (largest / largest.new_tensor(LARGEST[dtype])).clamp(min=1e-12)
    numbers = x.float() / scales
    return (numbers.round() if dtype == torch.int8 else numbers).to(dtype), scales
