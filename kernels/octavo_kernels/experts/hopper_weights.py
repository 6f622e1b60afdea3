"""The weights of all experts as the kernel for Hopper gets them: a matrix that the tensor memory accelerator copies
tiles of, and what its numbers are multiplied by."""

from typing import NamedTuple

import torch
from torch import Tensor

from octavo_kernels.experts import PackedWeights, StackedGroups, Weights
from octavo_kernels.grouped_linear import GroupedWeights

BLOCK = 128  # terms of a step of the sum, of narrow weights


class Form(NamedTuple):
    """What a program knows of a weight when it is compiled."""

    kind: str  # wide (of 16 bits), int4, mxfp4, fp8 or int8
    bits: int
    scaled: bool  # by groups of a row, before the product
    groups: int  # of columns
    high: int  # rows of a group
    wide: int  # columns of a group
    offset: int


class Factors(NamedTuple):
    """Of narrow weights."""

    scales: Tensor
    zeros: Tensor | None


def form(weights: Weights) -> Form | None:
    """None of weights that the kernel does not take."""
    if isinstance(weights, PackedWeights):
        found = Form("mxfp4", 4, True, groups=weights.scales.shape[2], high=1, wide=32, offset=0)
        return found if _is_copied(weights.blocks) else None
    if isinstance(weights, StackedGroups):
        return _of_groups(weights.weight) if _is_copied(weights.weight.values) else None
    is_wide = isinstance(weights, Tensor) and _is_copied(weights)
    return Form("wide", 16, False, 1, 1, 1, 0) if is_wide else None


def _is_copied(stored: Tensor) -> bool:
    """By the accelerator, of which each row begins at a multiple of 16 bytes."""
    return stored.shape[-1] * stored.itemsize % 16 == 0


def _of_groups(weight: GroupedWeights) -> Form | None:
    (high, wide), groups = weight.group, weight.scales.shape[1]
    # All numbers of a word that a thread takes share a scale.
    least = 32 if weight.bits == 4 else BLOCK
    if weight.bits not in (4, 8) or (groups > 1 and wide % least):
        return None
    if not (weight.codebook is weight.minimums is weight.factors is None):
        return None
    if weight.bits == 4:
        return Form("int4", 4, True, groups, high, wide, weight.offset)
    if weight.zeros is not None or weight.offset:
        return None
    kind = "int8" if weight.values.dtype == torch.int8 else "fp8"
    return Form(kind, 8, groups > 1, groups, high, wide, 0)


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
