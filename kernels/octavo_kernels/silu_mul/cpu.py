"""silu_mul in torch for the CPU: two calls; 16-bit types are rounded after each."""

from torch import Tensor
from torch.nn.functional import silu


def silu_mul(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.silu_mul`."""
    gate, up = gate_up.chunk(2, dim=-1)
    activated = silu(gate).mul_(up)
    return activated if out is None else out.copy_(activated)
