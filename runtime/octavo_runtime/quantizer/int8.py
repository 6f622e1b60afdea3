"""Integers of 8 bits with a scale for each output, as compressed-tensors stores them (LLM.int8, Dettmers et al. 2022;
SmoothQuant, Xiao et al. 2023)."""

from torch import Tensor

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix, quantize_rows


def quantize(weight: Tensor) -> GroupedMatrix:
    """A weight [rows, columns] float32."""
    return quantize_rows(weight, "integers")


def stored(matrix: GroupedMatrix) -> dict[str, Tensor]:
    """The tensors of a projection."""
    return {"weight": matrix.values, "weight_scale": matrix.scales}
