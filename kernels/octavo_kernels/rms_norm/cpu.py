"""rms_norm for the CPU, in one pass: at small batches the overhead of each call is its cost."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.compiled import as_array, compiled, narrowed, widened

_Array = npt.NDArray[Any]


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.rms_norm`. 16-bit types are rounded once, behind the weight."""
    out = torch.empty(x.shape, dtype=weight.dtype) if out is None else out
    normalise(as_array(x), as_array(weight), eps, as_array(out))
    return out


@compiled()
def normalise(x: _Array, weight: _Array, eps: float, out: _Array) -> None:
    for row in range(x.shape[0]):
        normalise_row(x[row], weight, eps, out[row])


@compiled()
def normalise_row(x: _Array, weight: _Array, eps: float, out: _Array) -> None:
    """rms_norm of one row, for loops that have just computed it."""
    square = 0.0  # in 64 bits: a wide row's sum would lose digits
    for column in range(len(x)):
        value = widened(x[column])
        square += value * value
    scale = np.float32(1 / np.sqrt(square / len(x) + eps))
    for column in range(len(x)):
        out[column] = narrowed(widened(x[column]) * scale * widened(weight[column]), out)
