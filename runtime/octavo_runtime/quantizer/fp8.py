"""FP8 (e4m3; Micikevicius et al. 2022): a scale for each output, or for each block as DeepSeek-V3 (2024) has it."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix, quantize_rows
from octavo_runtime.quantizer.recipe import FP8_BLOCK, Recipe

_GREATEST = 448.0


def quantize(weight: Tensor, recipe: Recipe) -> GroupedMatrix:
    """A weight [rows, columns] float32."""
    if not recipe.blocks:
        return quantize_rows(weight, "fp8")
    rows, columns = weight.shape
    padded = pad(weight, (0, -columns % FP8_BLOCK, 0, -rows % FP8_BLOCK))
    blocks = padded.unflatten(1, (-1, FP8_BLOCK)).unflatten(0, (-1, FP8_BLOCK))  # [blocks, rows, blocks, columns]
    scales = (blocks.abs().amax(dim=(1, 3)) / _GREATEST).clamp(min=1e-10)
    numbers = (blocks / scales[:, None, :, None]).flatten(2).flatten(0, 1)[:rows, :columns]
    return GroupedMatrix(numbers.contiguous().to(torch.float8_e4m3fn), scales, (FP8_BLOCK, FP8_BLOCK))


def stored(matrix: GroupedMatrix) -> dict[str, Tensor]:
    """The tensors of a projection: compressed-tensors' names, or DeepSeek's of blocks."""
    return {"weight": matrix.values, "weight_scale" if matrix.group[0] == 1 else "weight_scale_inv": matrix.scales}
