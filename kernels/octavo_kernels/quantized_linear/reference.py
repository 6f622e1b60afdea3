"""The oracle of quantized_linear: the weight, unpacked again."""

import torch
from torch import Tensor

from octavo_kernels.quantized_linear import GROUP, TILE, PackedGroups


def unpack(weight: PackedGroups) -> Tensor:
    """[out, in] float32."""
    value_bytes = GROUP * TILE * weight.bits // 8
    values, factors = weight.data[..., :value_bytes], weight.data[..., value_bytes:].contiguous().view(torch.float16)
    if weight.bits == 4:
        halves = values.unflatten(-1, (GROUP // 2, TILE // 2, 2))
        pairs = torch.cat((halves & 15, halves >> 4), dim=-2).float()
    else:
        pairs = values.contiguous().view(torch.int8).unflatten(-1, (GROUP // 2, TILE, 2)).float()
    matrix = pairs.transpose(2, 3).flatten(3) * factors[..., :TILE, None].float()  # [tiles, groups, rows, columns]
    if weight.bits == 4:
        matrix = matrix + factors[..., TILE:, None].float()
    return matrix.transpose(1, 2).flatten(2).flatten(0, 1)[: weight.out_features]
