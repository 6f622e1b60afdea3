"""FP8 (e4m3; Micikevicius et al. 2022): a scale for each output, or for each block as DeepSeek-V3 (2024) has it.

Its numbers lie the denser the smaller they are, twice as dense from each power of two to the one below: a larger scale
than the greatest weight needs costs next to no range, and moves where in such an interval the weights lie. Of several
scales up to twice that one the best is taken."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantizer.recipe import FP8_BLOCK, Recipe

_GREATEST = 448.0
_SCALES = 8


def quantize(weight: Tensor, recipe: Recipe) -> GroupedMatrix:
    """A weight [rows, columns] float32."""
    rows, columns = weight.shape
    high, wide = (FP8_BLOCK, FP8_BLOCK) if recipe.blocks else (1, columns)
    padded = pad(weight, (0, -columns % wide, 0, -rows % high))
    groups = padded.unflatten(1, (-1, wide)).unflatten(0, (-1, high))  # [groups, rows, groups, columns]
    least_scales = (groups.abs().amax(dim=(1, 3), keepdim=True) / _GREATEST).clamp(min=1e-10)
    best, least = least_scales, torch.full_like(least_scales, torch.inf)
    for step in range(_SCALES):
        scales = least_scales * 2 ** (step / _SCALES)
        loss = ((groups / scales).to(torch.float8_e4m3fn).float() * scales - groups).square_()
        loss = loss.sum(dim=(1, 3), keepdim=True)
        best, least = torch.where(loss < least, scales, best), torch.minimum(loss, least)
    numbers = (groups / best).flatten(2).flatten(0, 1)[:rows, :columns]
    return GroupedMatrix(numbers.contiguous().to(torch.float8_e4m3fn), best[:, 0, :, 0], (high, wide))


def stored(matrix: GroupedMatrix) -> dict[str, Tensor]:
    """The tensors of a projection: compressed-tensors' names, or DeepSeek's of blocks."""
    return {"weight": matrix.values, "weight_scale" if matrix.group[0] == 1 else "weight_scale_inv": matrix.scales}
