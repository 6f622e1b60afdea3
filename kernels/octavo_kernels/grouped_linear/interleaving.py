"""The order of a weight's numbers in which a Hopper GPU unpacks them fastest, and the way back.

The four threads that share a row of the matrix units' operand take two neighbours in turn, eight numbers at a time. So
64 bytes of a row hold what they take of 64 numbers of 8 bits or of 128 of fewer: 16 bytes for each thread, in 32-bit
words of what it takes of 16 or 32 numbers, of which the first neighbours fill the lower half and the second ones the
upper half. The bits above the lower 4 lie likewise, what a thread takes of 256 numbers together. Scales, zero points
and minimums lie in blocks: those of 128 columns of all rows, one row after another; what nested ones are multiplied by,
in blocks of 256 columns."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from octavo_kernels.grouped_linear import GroupedWeights, pack_halves
from octavo_kernels.quantized_linear.formats import SUPER

BLOCK = 128  # columns
_MOVED_ROWS = 512  # at a time, since each of their numbers takes a byte then


def interleaves(weight: GroupedWeights) -> bool:
    """Whether a weight can lie so, and does not yet."""
    high, wide = weight.group
    has_small_groups = high == 1 and wide in (16, 32, 64, BLOCK)
    rest = BLOCK if weight.upper is None else SUPER
    return not weight.interleaved and has_small_groups and weight.shape[1] % rest == 0


def groups_in_block(weight: GroupedWeights) -> int:
    """Groups of columns whose scales lie together in an interleaved weight."""
    return BLOCK // weight.group[1]


def interleave(weight: GroupedWeights) -> GroupedWeights:
    """The same weight, its numbers in that order."""
    parts = _factors(weight, _in_blocks)
    if weight.factors is not None:
        parts["factors"] = weight.factors.permute(2, 0, 1).reshape(weight.factors.shape)
    if weight.upper is not None:
        parts["upper"] = _by_rows(partial(_interleaved_upper, step=weight.bits - 4), weight.upper)
    values = _by_rows(_interleaved_bytes if weight.bits == 8 else _interleaved_halves, weight.values)
    return replace(weight, interleaved=True, values=values, **parts)


def natural(weight: GroupedWeights) -> GroupedWeights:
    """An interleaved weight with its numbers in the order of its columns; others as they are."""
    if not weight.interleaved:
        return weight
    parts = _factors(weight, _in_rows)
    if weight.factors is not None:
        rows, kinds, supers = weight.factors.shape
        parts["factors"] = weight.factors.view(supers, rows, kinds).permute(1, 2, 0).contiguous()
    if weight.upper is not None:
        parts["upper"] = _by_rows(partial(_natural_upper, step=weight.bits - 4), weight.upper)
    values = _by_rows(_natural_bytes if weight.bits == 8 else _natural_halves, weight.values)
    return replace(weight, interleaved=False, values=values, **parts)


def lower_of(values: Tensor) -> Tensor:
    """[out, in] of [out, in / 2] uint8: the lower 4 bits of numbers, as they lie."""
    return torch.stack((values & 15, values >> 4), dim=-1).flatten(1)


def upper_of(upper: Tensor, step: int) -> Tensor:
    """[out, in] of [out, in * step / 8] uint8: the `step` bits that numbers have above the lower 4, as they lie."""
    return (upper.unsqueeze(-1) >> _places(upper, step) & (1 << step) - 1).flatten(1)


def _interleaved_bytes(values: Tensor) -> Tensor:
    moved: Tensor = values.unflatten(1, (-1, 4, 2, 4, 2)).permute(0, 1, 4, 2, 5, 3).flatten(1)
    return moved


def _natural_bytes(values: Tensor) -> Tensor:
    moved: Tensor = values.unflatten(1, (-1, 4, 4, 2, 2)).permute(0, 1, 3, 5, 2, 4).flatten(1)
    return moved


def _interleaved_halves(values: Tensor) -> Tensor:
    return pack_halves(lower_of(values).unflatten(1, (-1, 4, 4, 4, 2)).permute(0, 1, 4, 2, 5, 3).flatten(1))


def _natural_halves(values: Tensor) -> Tensor:
    return pack_halves(lower_of(values).unflatten(1, (-1, 4, 4, 2, 4)).permute(0, 1, 3, 5, 2, 4).flatten(1))


def _interleaved_upper(upper: Tensor, step: int) -> Tensor:
    numbers = upper_of(upper, step).unflatten(1, (-1, 2, step, 4 // step, 4, 4, 2))
    return _packed(numbers.permute(0, 1, 6, 2, 3, 7, 4, 5).flatten(1), step)


def _natural_upper(upper: Tensor, step: int) -> Tensor:
    numbers = upper_of(upper, step).unflatten(1, (-1, 4, 2, step, 2, 4 // step, 4))
    return _packed(numbers.permute(0, 1, 3, 4, 6, 7, 2, 5).flatten(1), step)


def _packed(upper: Tensor, step: int) -> Tensor:
    packed: Tensor = (upper.unflatten(1, (-1, 8 // step)) << _places(upper, step)).sum(-1, dtype=torch.uint8)
    return packed


def _places(upper: Tensor, step: int) -> Tensor:
    return torch.arange(0, 8, step, dtype=torch.uint8, device=upper.device)


def _by_rows(move: Callable[[Tensor], Tensor], numbers: Tensor) -> Tensor:
    moved = torch.empty_like(numbers)
    rows = numbers.view(torch.uint8).split(_MOVED_ROWS), moved.view(torch.uint8).split(_MOVED_ROWS)
    for source, target in zip(*rows, strict=True):
        target.copy_(move(source))
    return moved


def _factors(weight: GroupedWeights, move: Callable[[Tensor, int], Tensor]) -> dict[str, Any]:
    """What each group has one of, moved."""
    count = groups_in_block(weight)
    every = {"scales": weight.scales, "zeros": weight.zeros, "minimums": weight.minimums}
    return {name: move(each, count) for name, each in every.items() if each is not None}


def _in_blocks(factors: Tensor, count: int) -> Tensor:
    moved: Tensor = factors.unflatten(1, (-1, count)).transpose(0, 1).reshape(factors.shape)
    return moved


def _in_rows(factors: Tensor, count: int) -> Tensor:
    return factors.view(-1, len(factors), count).transpose(0, 1).reshape(factors.shape)
