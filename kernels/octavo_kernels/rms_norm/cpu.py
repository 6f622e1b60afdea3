"""rms_norm in torch for the CPU: as few calls as possible, for at small batches each call's overhead is its cost.

16-bit types are rounded once, after the weight."""

from functools import cache

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.rms_norm`."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = torch.addcmul(_scalar(eps), norm, norm, value=1 / x.shape[-1]).rsqrt_()
    normed = (x * scale).mul_(weight)
    return normed.type_as(weight) if out is None else out.copy_(normed)


@cache
def _scalar(value: float) -> Tensor:
    """A tensor with no dimension: making one at each call would take as long as the arithmetic."""
    return torch.tensor(value, dtype=torch.float32)
