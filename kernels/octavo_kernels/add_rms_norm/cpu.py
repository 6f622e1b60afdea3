"""add_rms_norm for the CPU: each row is normalised while it is still in the cache."""

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.compiled import as_array, compiled, narrowed, widened
from octavo_kernels.rms_norm.cpu import normalise_row

_Array = npt.NDArray[Any]


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See `octavo_kernels.add_rms_norm`."""
    normed = torch.empty(x.shape, dtype=x.dtype)
    total = torch.empty(x.shape, dtype=residual.dtype)
    add_and_normalise(as_array(x), as_array(residual), as_array(weight), eps, as_array(normed), as_array(total))
    return normed, total


@compiled()
def add_and_normalise(x: _Array, residual: _Array, weight: _Array, eps: float, normed: _Array, total: _Array) -> None:
    """total may be residual itself."""
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            total[row, column] = narrowed(widened(x[row, column]) + widened(residual[row, column]), total)
        normalise_row(total[row], weight, eps, normed[row])
