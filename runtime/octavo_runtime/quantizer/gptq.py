"""GPTQ (Frantar et al. 2022): columns are rounded one after another, and what each loses is made up for by those that
are still to come, as the Hessian of the outputs' error says (Optimal Brain Surgeon, Hassibi and Stork 1993)."""

import torch
from torch import Tensor

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.unpacking import centred, centred_zeros
from octavo_runtime.quantizer.inputs import Inputs
from octavo_runtime.quantizer.packing import pack_words
from octavo_runtime.quantizer.recipe import DAMPING, Recipe

_BLOCK = 128  # columns whose losses reach those behind them in one product
_SHRINKS = 20
_LEAST_SHRINK = 0.6
_LEAST_SCALE = 6.2e-5  # normal in float16


def column_order(inputs: Inputs) -> Tensor:
    """[columns] int64: the columns in the order in which they are rounded, the largest inputs first: what these lose,
    most others can still make up for."""
    order: Tensor = inputs.gram.diagonal().argsort(descending=True, stable=True)
    return order


def inverse_factor(inputs: Inputs, order: Tensor) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped Hessian [columns, columns], its columns in the order, which is
    the same for all weights of the same inputs."""
    hessian = inputs.gram[order][:, order]
    diagonal = hessian.diagonal()
    mean = diagonal.mean().clamp(min=1e-12)
    diagonal[diagonal == 0] = mean  # of inputs that are never there
    damping = DAMPING
    upper: Tensor
    while True:
        damped = hessian.clone()
        damped.diagonal().add_(damping * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed:
            return upper
        damping *= 10


def quantize(weight: Tensor, factor: Tensor, order: Tensor, recipe: Recipe) -> GroupedMatrix:
    """A weight [rows, columns] float32. factor: see inverse_factor. Groups are of columns as they stand, and have their
    scales before any is rounded; with act_order they are of columns in the order, and have them when it is their
    turn."""
    rows, columns = weight.shape
    bits, size = recipe.bits, recipe.group_size or columns
    middle = 2 ** (bits - 1)
    importance = factor.diagonal() ** -2  # of an error, once the columns behind it made up for what they can
    scales = weight.new_empty(rows, -(-columns // size))
    groups = ((torch.arange(columns) if recipe.act_order else order) // size).tolist()
    if not recipe.act_order:
        standing = torch.empty_like(importance).index_copy_(0, order, importance)
        for first in range(0, columns, size):
            of_group = slice(first, first + size)
            scales[:, first // size] = best_scales(weight[:, of_group], standing[of_group], bits)
    weight = weight[:, order]
    block = _BLOCK if size % _BLOCK == 0 or size == columns else size
    numbers = torch.empty_like(weight)
    for first in range(0, columns, block):
        last = min(first + block, columns)
        part, losses = weight[:, first:last], torch.empty_like(weight[:, first:last])
        for index in range(last - first):
            at = first + index
            if recipe.act_order and at % size == 0:  # blocks end where groups do: what the group has now is up to date
                scales[:, at // size] = best_scales(weight[:, at : at + size], importance[at : at + size], bits)
            scale, column = scales[:, groups[at]], part[:, index]
            number = (column / scale).round().clamp(-middle, middle - 1)
            numbers[:, at] = number
            loss = (column - number * scale) / factor[at, at]
            part[:, index:] -= torch.outer(loss, factor[at, at:last])
            losses[:, index] = loss
        weight[:, last:] -= losses @ factor[first:last, last:]
    if not recipe.act_order:
        numbers = torch.empty_like(numbers).index_copy_(1, order, numbers)
    values = (numbers + middle).to(torch.uint8)
    zeros = centred_zeros(torch.full_like(scales, middle), bits)
    return GroupedMatrix(centred(values, bits), scales, (1, size), zeros, order=order if recipe.act_order else None)


def best_scales(weight: Tensor, importance: Tensor, bits: int) -> Tensor:
    """The scale [rows] of each row's group of columns [rows, columns] that loses least when they are rounded, of those
    that cut the greatest off or do not. importance: [columns]."""
    middle = 2 ** (bits - 1)
    greatest = weight.abs().amax(dim=1)
    best, least = torch.empty_like(greatest), torch.full_like(greatest, torch.inf)
    for shrink in torch.linspace(1, _LEAST_SHRINK, _SHRINKS).tolist():
        scales = (greatest * (2 * shrink / (2**bits - 1))).clamp(min=_LEAST_SCALE).half().float()
        numbers = (weight / scales.unsqueeze(1)).round_().clamp_(-middle, middle - 1)
        loss = ((numbers.mul_(scales.unsqueeze(1)) - weight).square_() * importance).sum(dim=1)
        better = loss < least
        best, least = torch.where(better, scales, best), torch.where(better, loss, least)
    return best


def stored(matrix: GroupedMatrix, recipe: Recipe) -> dict[str, Tensor]:
    """The tensors of a projection in AutoGPTQ's first layout, whose zero points are stored less one."""
    bits, columns = recipe.bits, matrix.values.shape[1]
    values = matrix.values if bits == 4 else matrix.values.view(torch.uint8) ^ 128
    place = torch.arange(columns, device=values.device)
    if matrix.order is not None:
        place = torch.empty_like(place).index_copy_(0, matrix.order, place)
    zeros = torch.full_like(matrix.scales, 2 ** (bits - 1) - 1)
    return {
        "qweight": pack_words(values[:, place], bits).T.contiguous(),
        "qzeros": pack_words(zeros.T, bits).contiguous(),
        "scales": matrix.scales.T.half().contiguous(),
        "g_idx": (place // matrix.group[1]).int(),
    }
