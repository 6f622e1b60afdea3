"""The weights of all experts as the kernel for Hopper gets them: a matrix that the tensor memory accelerator copies
tiles of, and what its numbers are multiplied by."""

import torch
from torch import Tensor

from octavo_kernels.experts import PackedWeights, StackedGroups, Weights
from octavo_kernels.grouped_linear.word_forms import Factors, Form, form_of_groups, is_copied


def form(weights: Weights) -> Form | None:
    """None of weights that the kernel does not take."""
    if isinstance(weights, PackedWeights):
        found = Form("mxfp4", 4, True, groups=weights.scales.shape[2], high=1, wide=32, offset=0)
        return found if is_copied(weights.blocks) else None
    if isinstance(weights, StackedGroups):
        return form_of_groups(weights.weight)
    is_wide = isinstance(weights, Tensor) and is_copied(weights)
    return Form("wide", 16, False, 1, 1, 1, 0) if is_wide else None


def matrix(weights: Weights) -> Tensor:
    """[experts * rows, columns], narrow numbers in words of 32 bits."""
    if isinstance(weights, PackedWeights):
        return weights.blocks.flatten(0, 1).view(torch.int32)
    if isinstance(weights, StackedGroups):
        return weights.weight.values.view(torch.int32)
    assert isinstance(weights, Tensor)
    return weights.flatten(0, 1)


def factors(weights: Weights) -> Factors | None:
    if isinstance(weights, PackedWeights):
        return Factors(weights.scales, None)
    return Factors(weights.weight.scales, weights.weight.zeros) if isinstance(weights, StackedGroups) else None
