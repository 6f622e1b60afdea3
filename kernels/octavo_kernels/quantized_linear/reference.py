"""The oracle of quantized_linear: the weight, unpacked again."""

import torch
from torch import Tensor

from octavo_kernels.quantized_linear import TILE, PackedGroups

# Pairs of columns whose values' upper bits, behind the lower four, share bytes.
PAIRS_OF_UPPER_BITS = {5: 8, 6: 4}


def unpack(weight: PackedGroups) -> Tensor:
    """[out, in] float32."""
    form, data = weight.format, weight.data
    kinds = 1 + form.has_minimum  # of scales and minimums
    head = data[..., : 2 * TILE * kinds * form.is_nested].contiguous().view(torch.float16).float()
    groups = data[..., head.shape[-1] * 2 :].unflatten(-1, (form.groups, -1))
    values, each = groups.split([form.group * TILE * form.bits // 8, groups.shape[-1] - _value_bytes(weight)], dim=-1)
    if form.is_nested:
        scales = each[..., :TILE].contiguous().view(torch.int8).float() * head[..., None, :TILE]
        minimums = each[..., TILE:].float() * head[..., None, TILE:]
    else:
        scales, minimums = each.contiguous().view(torch.float16).float().split([TILE, TILE * (kinds - 1)], dim=-1)
    matrix: Tensor = (_values(values, weight) - form.offset) * scales.unsqueeze(-1)
    if form.has_minimum:
        matrix = matrix + minimums.unsqueeze(-1)
    # [tiles, blocks, groups, rows, columns]
    return matrix.permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)[: weight.out_features]


def _value_bytes(weight: PackedGroups) -> int:
    return weight.format.group * TILE * weight.format.bits // 8


def _values(data: Tensor, weight: PackedGroups) -> Tensor:
    """What the bytes stand for, [tiles, blocks, groups, rows, columns] float32."""
    form = weight.format
    if form.bits == 8:
        pairs = data.contiguous().view(torch.int8).unflatten(-1, (form.group // 2, TILE, 2))
    else:
        together = PAIRS_OF_UPPER_BITS.get(form.bits, form.group // 2)
        sections = data.unflatten(-1, (form.group // 2 // together, -1))
        lower = sections[..., -TILE * together :].unflatten(-1, (together, TILE // 2, 2))
        pairs = torch.cat((lower & 15, lower >> 4), dim=-2)
        if form.bits > 4:
            upper = sections[..., : 2 * TILE].unflatten(-1, (1, TILE, 2))
            width = 8 // together
            shifts = torch.arange(together).view(-1, 1, 1) * width
            pairs = pairs | (upper >> shifts & 2**width - 1) << 4
        pairs = pairs.flatten(3, 4)
    columns: Tensor = pairs.transpose(3, 4).flatten(4)
    if form.numbers is not None:
        return torch.tensor(form.numbers).float()[columns.long()]
    return columns.float()
