"""int8_linear in Triton: one kernel rounds the rows, another multiplies them on the tensor cores and scales the sums
before it writes them, so that no sums of 32 bits go through memory."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.eight_bits_kernels import INT8
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gpu import gpu
from octavo_kernels.rounded_rows import gate_round, round_rows


class Tile(NamedTuple):
    """What one program works on at a time, and how."""

    rows: int
    columns: int  # of the result
    depth: int  # of the sum
    warps: int
    stages: int  # of the software pipeline

    @property
    def shared_memory(self) -> int:
        """Bytes."""
        return (self.rows + self.columns) * self.depth * self.stages


LARGE = Tile(128, 256, 128, 8, 4)  # 192 KB
MEDIUM = Tile(128, 128, 128, 8, 3)  # 96 KB, of the 99 of consumer GPUs
SMALL = Tile(64, 64, 128, 4, 4)


@triton.jit(do_not_specialize=["rows"])
def product_kernel(
    out,
    x,
    of_rows,
    values,
    scales,
    bias,
    rows,
    WIDTH: tl.constexpr,
    OUT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """A tile of the product. Grid: (tiles of rows, tiles of columns), so that programs side by side read the same
    weights.

    out: [rows, OUT]; x: [rows, WIDTH] int8; of_rows: [rows] float32, its scales; values: [OUT, WIDTH] int8; scales:
    [OUT]; bias: [OUT] or None."""
    wait_for_last(DEPENDENT)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_row, is_column = row < rows, column < OUT
    # What lies behind the last row or column is multiplied too, by what is there, and not written.
    states = x + (row % rows).to(tl.int64)[:, None] * WIDTH
    weights = values + (column % OUT).to(tl.int64)[None, :] * WIDTH
    total = tl.zeros([ROWS, COLUMNS], tl.int32)
    for first in range(0, WIDTH, DEPTH):
        depth = first + tl.arange(0, DEPTH)
        if WIDTH % DEPTH == 0:
            state = tl.load(states + depth[None, :])
            weight = tl.load(weights + depth[:, None])
        else:
            state = tl.load(states + depth[None, :], mask=(depth < WIDTH)[None, :], other=0)
            weight = tl.load(weights + depth[:, None], mask=(depth < WIDTH)[:, None], other=0)
        total = tl.dot(state, weight, total, out_dtype=tl.int32)
    of_row = tl.load(of_rows + row, mask=is_row, other=0.0)
    scale = tl.load(scales + column, mask=is_column, other=0.0).to(tl.float32)
    product = total.to(tl.float32) * of_row[:, None] * scale[None, :]
    if bias is not None:
        product += tl.load(bias + column, mask=is_column, other=0.0).to(tl.float32)[None, :]
    place = row.to(tl.int64)[:, None] * OUT + column[None, :]
    tl.store(out + place, product.to(out.dtype.element_ty), mask=is_row[:, None] & is_column[None, :])


def int8_linear(
    x: Tensor,
    values: Tensor,
    scales: Tensor,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """See `octavo_kernels.int8_linear`."""
    rows, (columns, width) = len(x), values.shape
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device) if out is None else out
    if rows == 0:
        return out
    stored, of_rows = round_rows(x, INT8) if gate is None else gate_round(x, gate, INT8)
    tile = _tile(rows, columns, x.device)
    product_kernel[(triton.cdiv(rows, tile.rows), triton.cdiv(columns, tile.columns))](
        out,
        stored,
        of_rows,
        values,
        scales,
        bias,
        rows,
        WIDTH=width,
        OUT=columns,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **launch_options(x.device),
    )
    return out


def _tile(rows: int, columns: int, device: torch.device) -> Tile:
    """The largest whose programs fill the GPU, and which one of its processors holds."""
    limits = gpu(device)
    for tile in (LARGE, MEDIUM):
        programs = triton.cdiv(rows, tile.rows) * triton.cdiv(columns, tile.columns)
        if programs >= limits.processors and tile.shared_memory <= limits.shared_memory:
            return tile
    return SMALL
