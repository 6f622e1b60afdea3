"""The oracle of rms_norm."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None, offset: float = 0.0) -> Tensor:
    """See `octavo_kernels.rms_norm`."""
    wide = x.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)
    normed = ((offset + weight.float()) * scaled).to(weight.dtype) if offset else weight * scaled.to(weight.dtype)
    return normed if out is None else out.copy_(normed)
