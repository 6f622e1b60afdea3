"""Experts that a checkpoint stores in groups, in the forms that devices compute with as they are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from octavo_kernels.experts import GroupedExperts, StackedGroups
from octavo_kernels.grouped_linear import GroupedWeights
from octavo_runtime.layers.grouped_weights import grouped_weights
from octavo_runtime.layers.linear import in_groups, pack_linear
from octavo_runtime.models.loading.expert_parts import ExpertPart
from octavo_runtime.models.loading.placing import copy_to
from octavo_runtime.models.loading.stored_tensors import StoredTensor
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix, concatenate

ReadPart = Callable[[ExpertPart], StoredTensor]


def stacked_groups(
    parts: Sequence[ExpertPart], read: ReadPart, num_experts: int, device: torch.device
) -> StackedGroups | None:
    """The projection of all experts as GPUs compute with it, each tensor read and placed by itself. None where one is
    not in groups, or in others than the first, or has codebooks of its rows, an order of its inputs or outliers."""
    rows = max(part.rows.stop for part in parts)
    whole: GroupedWeights | None = None
    codebook: torch.Tensor | None = None
    for part in parts:
        stored, count = read(part), part.num_rows
        if isinstance(stored, GroupedMatrix) and _is_plain(stored):
            # Groups end where an expert's rows do.
            stored = stored if count % stored.group[0] == 0 else stored.with_scales_of_rows()
        elif not isinstance(stored, QuantizedMatrix):
            return None
        own = grouped_weights(stored, stored.values.device)
        if whole is None:
            whole, codebook = _empty_like(own, num_experts * rows, device), own.codebook
        elif _form(own) != _form(whole) or not _are_equal(own.codebook, codebook):
            return None
        for index, place in enumerate(range(num_experts) if part.place is None else (part.place,)):
            _copy(own.rows(index * count, count), whole.rows(place * rows + part.rows.start, count))
        del stored, own  # before the next is read
    return None if whole is None else StackedGroups(whole, num_experts)


def packed_groups(parts: Sequence[ExpertPart], read: ReadPart, num_experts: int) -> GroupedExperts | None:
    """The projection of all experts as CPUs compute with it. None where one is not in groups that they have loops
    for."""
    packed = []
    for projections in _of_each(parts, read, num_experts):
        groups = [each for each in map(in_groups, projections) if isinstance(each, QuantizedMatrix)]
        if len(groups) != len(projections):
            return None
        packed.append(pack_linear(concatenate(groups)).parts)
    return GroupedExperts(tuple(packed))


def _of_each(parts: Sequence[ExpertPart], read: ReadPart, num_experts: int) -> Iterator[Sequence[StoredTensor]]:
    """The projections that run as one, of one expert after another."""
    if all(part.place is not None for part in parts):
        for place in range(num_experts):
            yield [read(part) for part in parts if part.place == place]
        return
    stacked = [read(part) for part in parts]
    groups = [each for each in stacked if isinstance(each, QuantizedMatrix | GroupedMatrix)]
    if len(groups) == len(stacked):
        yield from zip(*(each.split(num_experts) for each in groups), strict=True)
    else:
        yield stacked


def _is_plain(matrix: GroupedMatrix) -> bool:
    has_own_books = matrix.codebook is not None and matrix.codebook.dim() == 2
    return matrix.order is None and matrix.outliers is None and not has_own_books


def _empty_like(weight: GroupedWeights, rows: int, device: torch.device) -> GroupedWeights:
    """So many rows in the same groups, not filled yet but for the codebook."""

    def empty(name: str, part: torch.Tensor) -> torch.Tensor:
        count = rows // weight.group[0] if name == "scales" else rows
        return torch.empty(count, *part.shape[1:], dtype=part.dtype, device=device)

    parts: dict[str, Any] = {name: empty(name, part) for name, part in _of_rows(weight).items()}
    return replace(weight, codebook=None if weight.codebook is None else weight.codebook.to(device), **parts)


def _of_rows(weight: GroupedWeights) -> dict[str, torch.Tensor]:
    """All tensors that hold something of each row."""
    return {name: part for name, part in vars(weight).items() if isinstance(part, torch.Tensor) and name != "codebook"}


def _form(weight: GroupedWeights) -> tuple[object, ...]:
    """What weights that lie together have in common."""
    parts = {name: (part.dtype, part.shape[1:]) for name, part in _of_rows(weight).items()}
    return parts, weight.group, weight.offset, weight.codebook is None


def _are_equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and one.equal(other))


def _copy(source: GroupedWeights, target: GroupedWeights) -> None:
    places = _of_rows(target)
    for name, part in _of_rows(source).items():
        copy_to(part, places[name])
