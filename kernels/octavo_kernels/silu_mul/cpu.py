"""silu_mul for the CPU."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.compiled import as_array, compiled, exponential, narrowed, widened, workers

# Below this many numbers, starting the other threads takes longer than they save.
_FEW = 32768

_Array = npt.NDArray[Any]


def silu_mul(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """See `octavo_kernels.silu_mul`. 16-bit types are rounded once."""
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(rows, width, dtype=gate_up.dtype) if out is None else out
    if out.numel() <= _FEW:
        activate(as_array(gate_up), as_array(out), 0, rows)
    else:
        _activate_together(as_array(gate_up), as_array(out), workers())
    return out


@compiled()
def activate(gate_up: _Array, out: _Array, first: int, end: int) -> None:
    """Rows first to end - 1. The exponential is taken of numbers below 0 alone, where it cannot overflow."""
    width = out.shape[1]
    for row in range(first, end):
        for column in range(width):
            gate, up = widened(gate_up[row, column]), widened(gate_up[row, column + width])
            small = exponential(-abs(gate))
            share = np.float32(1) / (np.float32(1) + small)
            out[row, column] = narrowed(gate * (share if gate >= 0 else small * share) * up, out)


@compiled(parallel=True)
def _activate_together(gate_up: _Array, out: _Array, workers: int) -> None:
    rows = out.shape[0]
    for worker in numba.prange(workers):
        activate(gate_up, out, worker * rows // workers, (worker + 1) * rows // workers)
