"""gated_linear for 65 to 128 rows on Hopper, in Gluon: warp-specialised, over a ring of stages in shared
memory.

A tile is 128 rows of x by 128 gates and the 128 columns that they multiply, so that x, which every program reads whole,
is read half as often as weights are: the second cache gives not much more than memory does. A program is two warpgroups
that compute, with 64 rows each, and a warp that has weights and x copied."""

import torch
import triton
from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gated_linear.hopper_kernel import gated_kernel
from octavo_kernels.gpu import gpu
from octavo_kernels.hopper_products import tiles

ROWS = 128
COLUMNS = 256  # of the weight's rows in a tile, half of them gates
DEPTH = 64  # numbers of a row in a stage
STAGES = 4
# Of a thread, in each warpgroup, and on the average of all 12 warps.
COMPUTE_REGISTERS, COPY_REGISTERS, REGISTERS = 240, 24, 168
LEAST_FILLED = 0.8


def fills(weight: Tensor) -> bool:
    """Whether the tiles of a gated weight [2 * columns, width] keep most of the GPU's processors busy to the end."""
    count, processors = triton.cdiv(len(weight), COLUMNS), gpu(weight.device).processors
    return bool(count >= LEAST_FILLED * processors * triton.cdiv(count, processors))


def gated_linear(x: Tensor, weight: Tensor, gate: GatedActivation, bias: Tensor | None, out: Tensor | None) -> Tensor:
    """See `octavo_kernels.gated_linear`."""
    rows, columns, width = len(x), len(weight) // 2, weight.shape[1]
    out = torch.empty(rows, columns, dtype=weight.dtype, device=x.device) if out is None else out
    gated_kernel[(triton.cdiv(columns, COLUMNS // 2),)](
        tiles(x, ROWS, DEPTH),
        tiles(weight, COLUMNS // 2, DEPTH),
        out if bias is None else bias,
        out,
        rows,
        columns,
        triton.cdiv(width, DEPTH),
        BIAS=bias is not None,
        GATE=gate,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        DEPTH=DEPTH,
        STAGES=STAGES,
        COMPUTE_REGISTERS=COMPUTE_REGISTERS,
        COPY_REGISTERS=COPY_REGISTERS,
        num_warps=4,
        maxnreg=REGISTERS,
        launch_pdl=True,
    )
    return out
