"""gated_linear for Hopper, in Gluon: warp-specialised, over a ring of stages in shared memory.

A tile is 128 rows of x by 128 gates and the 128 columns that they multiply. A program is two warpgroups that compute,
with 64 rows each, and a warp that has weights and x copied; it takes one tile after another, and copies ahead into the
next one while the activation is computed."""

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
MOST_OF_BAND = 12  # tiles of rows that share columns: with theirs they fit into the second cache
# Of a thread, in each warpgroup, and on the average of all 12 warps.
COMPUTE_REGISTERS, COPY_REGISTERS, REGISTERS = 240, 24, 168
# How much of what the processors could do meanwhile must be work: of up to FEW tiles of rows, which wait for weights
# more than for the matrix units, and of more. Found on an H200, for Llama-3.1-8B's shape: 256 rows, which fill 0.85,
# take 104 microseconds here and 113 by the vendor's product and gate_mul; 640 rows, which fill as much, 260 and 251;
# 1,152, which fill 0.95, 414 and 429.
FEW, LEAST_FILLED, LEAST_FILLED_OF_MANY = 2, 0.8, 0.94


def fills(rows: int, weight: Tensor) -> bool:
    """Whether the tiles of so many rows and a gated weight [2 * columns, width] keep the GPU's processors busy."""
    columns, processors = len(weight) // 2, gpu(weight.device).processors
    row_tiles, column_tiles = triton.cdiv(rows, ROWS), triton.cdiv(columns, COLUMNS // 2)
    room = triton.cdiv(row_tiles * column_tiles, processors) * processors * ROWS * COLUMNS // 2
    if row_tiles == 1:  # takes as long for any number of rows, as the vendor's does
        rows = ROWS
    least = LEAST_FILLED if row_tiles <= FEW else LEAST_FILLED_OF_MANY
    return bool(rows * columns >= least * room)


def gated_linear(x: Tensor, weight: Tensor, gate: GatedActivation, bias: Tensor | None, out: Tensor | None) -> Tensor:
    """See `octavo_kernels.gated_linear`."""
    rows, columns, width = len(x), len(weight) // 2, weight.shape[1]
    out = torch.empty(rows, columns, dtype=weight.dtype, device=x.device) if out is None else out
    row_tiles, steps = triton.cdiv(rows, ROWS), triton.cdiv(width, DEPTH)
    count = row_tiles * triton.cdiv(columns, COLUMNS // 2)
    gated_kernel[(min(count, gpu(x.device).processors),)](
        tiles(x, ROWS, DEPTH),
        tiles(weight, COLUMNS // 2, DEPTH),
        out if bias is None else bias,
        out,
        rows,
        columns,
        row_tiles,
        count,
        triton.cdiv(row_tiles, triton.cdiv(row_tiles, MOST_OF_BAND)),
        steps,
        BIAS=bias is not None,
        GATE=gate,
        STAGGERED=steps >= STAGES,
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
