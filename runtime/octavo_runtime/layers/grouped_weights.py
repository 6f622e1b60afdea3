"""Stored matrices of few bits as a GPU computes with them."""

import torch
from torch import Tensor

from octavo_kernels.grouped_linear import GroupedWeights, pack_halves, pack_upper
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix


def grouped_weights(weight: GroupedMatrix | QuantizedMatrix, device: torch.device) -> GroupedWeights:
    """A weight in groups on `device`, without what its checkpoint has beside it."""
    made = _of_blocks(weight) if isinstance(weight, QuantizedMatrix) else _of_groups(weight)
    return made.to(device)


def _of_groups(weight: GroupedMatrix) -> GroupedWeights:
    values = pack_halves(weight.values) if weight.values.dtype == torch.uint8 else weight.values
    # Scales of FP8 are small enough to lose in 16 bits; the others and their zero points were stored in so many.
    wide = torch.float32 if values.dtype == torch.float8_e4m3fn else torch.float16
    zeros, codebook = _half(weight.zeros), _half(weight.codebook)
    return GroupedWeights(values, weight.scales.to(wide), weight.group, zeros, codebook)


def _of_blocks(weight: QuantizedMatrix) -> GroupedWeights:
    """To the last bit what the matrix means."""
    form, values = weight.format, weight.values
    upper = pack_upper(values, form.bits) if form.bits in (5, 6) else None
    factors = None
    if weight.factors is not None:
        of_both = [each for each in (weight.factors.scales, weight.factors.minimums) if each is not None]
        factors = torch.stack(of_both, dim=1).half()
    return GroupedWeights(
        values if form.bits == 8 else pack_halves(values & 15),
        weight.scales.to(torch.int8 if form.is_nested else torch.float16),
        (1, form.group),
        codebook=None if form.numbers is None else torch.tensor(form.numbers).half(),
        minimums=weight.minimums if form.is_nested else _half(weight.minimums),
        factors=factors,
        upper=upper,
        offset=form.offset,
    )


def _half(factors: Tensor | None) -> Tensor | None:
    return None if factors is None else factors.half()
