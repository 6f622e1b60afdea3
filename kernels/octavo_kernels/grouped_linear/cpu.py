"""grouped_linear in torch for the CPU: some rows of the weight after another, since all of them unpacked would take
eight times its memory."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from octavo_kernels.grouped_linear import GroupedWeights
from octavo_kernels.grouped_linear.interleaving import natural
from octavo_kernels.grouped_linear.reference import dequantize

# At least; whole groups.
UNPACKED_ROWS = 256


def grouped_linear(x: Tensor, weight: GroupedWeights, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.grouped_linear`."""
    states = x.float()
    product = torch.cat([linear(states, dequantize(part)) for part in _parts(weight)], dim=-1)
    if bias is not None:
        product += bias
    return product.to(x.dtype) if out is None else out.copy_(product)


def _parts(weight: GroupedWeights) -> list[GroupedWeights]:
    weight = natural(weight)
    high = weight.group[0]
    step = -(-UNPACKED_ROWS // high) * high
    return [weight.rows(first, step) for first in range(0, len(weight.values), step)]
