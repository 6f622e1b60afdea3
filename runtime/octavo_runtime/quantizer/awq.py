"""AWQ (Lin et al. 2023): the inputs that are large matter most. Each is made smaller by a factor that its weights are
multiplied by, and so rounded more finely; the factor is folded into what brings the input, and the output stays the
same. Then the greatest weights of a group are cut off where that loses less than it wins."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from octavo_runtime.quantization.formats.awq import PLACES
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantizer.inputs import Inputs, output_error
from octavo_runtime.quantizer.packing import pack_words

_GREATEST = 15
_RATIOS = 20
_SHRINKS = 10
_LEAST_SHRINK = 0.55
_LEAST_SCALE = 6.2e-5  # normal in float16


class Readers(NamedTuple):
    """Weights [rows, columns] that multiply the same inputs. share: of the tokens, those that come to them."""

    weights: Sequence[Tensor]
    inputs: Inputs
    share: float = 1.0


def best_scales(readers: Iterable[Readers], sizes: Tensor, size: int, sharing: Tensor | None = None) -> Tensor:
    """[columns]: what to multiply the columns of the readers' weights by, a power of the inputs' sizes [columns]; all 1
    where none is better. size: columns of a group. sharing: [columns] int64, the numbers of the factors where several
    columns must have the same, as many for each."""
    sizes = sizes.clamp(min=1e-8)
    if sharing is not None:
        groups = sharing.argsort(stable=True).view(int(sharing.max()) + 1, -1)
        sizes = sizes[groups].mean(dim=1)[sharing]
    tried = [sizes.pow(step / _RATIOS).clamp(min=1e-4) for step in range(_RATIOS)]
    tried = [scales / (scales.max() * scales.min()).sqrt() for scales in tried]
    errors = torch.zeros(_RATIOS, device=sizes.device)
    for weights, inputs, share in readers:
        for step, scales in enumerate(tried):
            for weight in weights:
                change = rounded(weight * scales, size).dequantize() / scales - weight
                errors[step] += share * output_error(change, inputs)
    return tried[int(errors.argmin())]


def rounded(weight: Tensor, size: int) -> GroupedMatrix:
    """A weight [rows, columns] float32 in 4 bits, from the least to the greatest of each group of `size` columns."""
    groups = weight.unflatten(1, (-1, size))
    return _rounded(weight, groups.amin(-1), groups.amax(-1), size)


def quantize(weight: Tensor, inputs: Inputs, size: int) -> GroupedMatrix:
    """The same, each group within the bounds that bring the least error of its outputs."""
    groups = weight.unflatten(1, (-1, size))  # [rows, groups, size]
    count = groups.shape[1]
    low, high = groups.amin(-1), groups.amax(-1)
    # What a group's columns change in the outputs by themselves: the blocks of the diagonal.
    grams = inputs.gram.unflatten(0, (count, size)).unflatten(2, (count, size)).diagonal(dim1=0, dim2=2)
    grams = grams.permute(2, 0, 1).contiguous()  # [groups, size, size]
    best_low, best_high, least = low, high, torch.full_like(low, torch.inf)
    for shrink in torch.linspace(1, _LEAST_SHRINK, _SHRINKS).tolist():
        meant = _rounded(weight, low * shrink, high * shrink, size).dequantize()
        change = (meant - weight).unflatten(1, (-1, size)).transpose(0, 1)  # [groups, rows, size]
        error = ((change @ grams) * change).sum(-1).T
        better = error < least
        best_low, best_high = torch.where(better, low * shrink, best_low), torch.where(better, high * shrink, best_high)
        least = torch.where(better, error, least)
    return _rounded(weight, best_low, best_high, size)


def _rounded(weight: Tensor, low: Tensor, high: Tensor, size: int) -> GroupedMatrix:
    """low, high: [rows, groups]; the zero point is a whole number, so 0 is between them."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scales = ((high - low) / _GREATEST).clamp(min=_LEAST_SCALE).half().float()
    zeros = (-low / scales).round_().clamp_(0, _GREATEST)
    numbers = weight.unflatten(1, (-1, size)) / scales.unsqueeze(-1) + zeros.unsqueeze(-1)
    values = numbers.round_().clamp_(0, _GREATEST).flatten(1).to(torch.uint8)
    return GroupedMatrix(values, scales, (1, size), zeros)


def stored(matrix: GroupedMatrix) -> dict[str, Tensor]:
    """The tensors of a projection in AutoAWQ's gemm layout."""
    assert matrix.zeros is not None
    return {
        "qweight": _packed(matrix.values.T),
        "qzeros": _packed(matrix.zeros.T),
        "scales": matrix.scales.T.half().contiguous(),
    }


def _packed(numbers: Tensor) -> Tensor:
    """[inputs, outputs / 8] int32 of [inputs, outputs]."""
    in_words = numbers.unflatten(-1, (-1, 8))
    placed = torch.empty_like(in_words)
    placed[..., PLACES] = in_words
    return pack_words(placed.flatten(-2), 4).contiguous()
