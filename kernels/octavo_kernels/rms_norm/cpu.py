"""rms_norm in torch for the CPU: torch's own, which for 16-bit types rounds once, after the weight."""

from torch import Tensor
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.rms_norm`."""
    normed = functional.rms_norm(x, weight.shape, weight.to(x.dtype), eps).to(weight.dtype)
    return normed if out is None else out.copy_(normed)
