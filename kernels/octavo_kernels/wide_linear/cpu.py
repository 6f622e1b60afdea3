"""wide_linear for the CPU: each row of the weight is read once, for all rows of x."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.compiled import as_array, compiled, widened, workers

_Array = npt.NDArray[Any]


def wide_linear(x: Tensor, weight: Tensor) -> Tensor:
    """See `octavo_kernels.wide_linear`."""
    out = torch.empty(x.shape[0], weight.shape[0])
    _multiply_together(x.float().numpy(), as_array(weight), out.numpy(), workers())
    return out


@compiled()
def _multiply(x: _Array, weight: _Array, out: _Array, first: int, end: int) -> None:
    """Columns first to end - 1 of `out`."""
    for column in range(first, end):
        for row in range(x.shape[0]):
            total = np.float32(0)
            for element in range(x.shape[1]):
                total += x[row, element] * widened(weight[column, element])
            out[row, column] = total


@compiled(parallel=True)
def _multiply_together(x: _Array, weight: _Array, out: _Array, workers: int) -> None:
    columns = weight.shape[0]
    for worker in numba.prange(workers):
        _multiply(x, weight, out, worker * columns // workers, (worker + 1) * columns // workers)
