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
BAND = 12  # tiles of rows that share columns: with theirs they fit into the second cache
# Of a thread, in each warpgroup, and on the average of all 12 warps.
COMPUTE_REGISTERS, COPY_REGISTERS, REGISTERS = 240, 24, 168
# How much of the time that all processors take for the last tiles must be work: of a tile's rows, which wait for the
# weights to come, and of more, which wait for the matrix units, of which the vendor's products lose little.
LEAST_FILLED, LEAST_FILLED_OF_MANY = 0.8, 0.94


def fills(rows: int, weight: Tensor) -> bool:
    """Whether the tiles of so many rows and a gated weight [2 * columns, width] keep the GPU's processors busy."""
    columns, processors = len(weight) // 2, gpu(weight.device).processors
    row_tiles, column_tiles = triton.cdiv(rows, ROWS), triton.cdiv(columns, COLUMNS // 2)
    room = triton.cdiv(row_tiles * column_tiles, processors) * processors
    if row_tiles == 1:
        return bool(column_tiles >= LEAST_FILLED * room)
    return bool(rows * columns >= LEAST_FILLED_OF_MANY * room * ROWS * COLUMNS // 2)


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
        steps,
        BIAS=bias is not None,
        GATE=gate,
        STAGGERED=steps >= STAGES,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        DEPTH=DEPTH,
        STAGES=STAGES,
        BAND=BAND,
        COMPUTE_REGISTERS=COMPUTE_REGISTERS,
        COPY_REGISTERS=COPY_REGISTERS,
        num_warps=4,
        maxnreg=REGISTERS,
        launch_pdl=True,
    )
    return out
