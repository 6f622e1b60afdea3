"""Weights as kernels for Hopper take them that unpack whole words: a matrix that the tensor memory accelerator copies
tiles of, and what its numbers are multiplied by."""

from typing import NamedTuple

import torch
from torch import Tensor

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


def is_copied(stored: Tensor) -> bool:
    """By the accelerator, of which each row begins at a multiple of 16 bytes."""
    return stored.shape[-1] * stored.itemsize % 16 == 0


def form_of_groups(weight: GroupedWeights) -> Form | None:
    """None of weights that such kernels do not take."""
    (high, wide), groups = weight.group, weight.scales.shape[1]
    # All numbers of a word that a thread takes share a scale.
    least = 32 if weight.bits == 4 else BLOCK
    if weight.interleaved or weight.bits not in (4, 8) or (groups > 1 and wide % least):
        return None
    if not (weight.codebook is weight.minimums is weight.factors is None) or not is_copied(weight.values):
        return None
    if weight.bits == 4:
        return Form("int4", 4, True, groups, high, wide, weight.offset)
    if weight.zeros is not None or weight.offset:
        return None
    kind = "int8" if weight.values.dtype == torch.int8 else "fp8"
    return Form(kind, 8, groups > 1, groups, high, wide, 0)
