"""grouped_linear for Hopper, in Gluon, for few rows: the weights stream through a ring of stages in shared memory as
they are stored, and are unpacked into the registers from which the matrix units take them.

As in skinny_linear the operands change sides, so that columns of the result fill the matrix units and few rows of x are
padded to few, and the ring's first stages are asked for before the kernel in front has ended. A group's sum is
multiplied by its scale, not each of its weights."""

from typing import Literal, NamedTuple

import torch
import triton
from torch import Tensor

from octavo_kernels.gpu import gpu
from octavo_kernels.grouped_linear import MOST_ROWS, GroupedWeights
from octavo_kernels.grouped_linear.hopper_kernel import grouped_kernel
from octavo_kernels.hopper_products import no_arrivals, tiles

DEPTH = 256  # numbers of a row in a stage
COLUMNS = 64  # of the product in a tile
_MOST_CALLS = 2  # of more rows the weights are read once for each MOST_ROWS; above, others are faster
_GROUP = DEPTH // 2  # numbers of a row that share a scale, or a multiple of it
_MOST_TILES = 4096
Kind = Literal["int4", "int8", "fp8"]


class Tiling(NamedTuple):
    """How a product is cut."""

    stages: int
    splits: int = 1  # parts of the sums of a tile, each a program's


# The fastest on an H200 for Llama-3.1-8B's output and down projections, for query, key and value, and for gate and up;
# by bits and rows.
_TILINGS = {
    (4, 8): (Tiling(2, 8), Tiling(3, 8), Tiling(3, 4), Tiling(3)),
    (4, 16): (Tiling(2, 4), Tiling(2, 8), Tiling(2, 4), Tiling(2)),
    (4, 32): (Tiling(4, 4), Tiling(4, 4), Tiling(2, 4), Tiling(2)),
    (4, 64): (Tiling(5, 2), Tiling(5, 2), Tiling(2, 2), Tiling(2)),
    (8, 8): (Tiling(2, 8), Tiling(5, 4), Tiling(3, 4), Tiling(5)),
    (8, 16): (Tiling(4, 4), Tiling(4, 4), Tiling(3, 4), Tiling(2)),
    (8, 32): (Tiling(3, 4), Tiling(3, 4), Tiling(3, 2), Tiling(3)),
    (8, 64): (Tiling(4, 2), Tiling(2, 4), Tiling(4), Tiling(2)),
}


def fits(x: Tensor, weight: GroupedWeights) -> bool:
    """Whether this form computes x [rows, in] by the weight."""
    return x.dtype != torch.float32 and 0 < len(x) <= MOST_ROWS * _MOST_CALLS and takes(weight)


def takes(weight: GroupedWeights) -> bool:
    """Whether this form multiplies by a weight: groups of half a stage, and neither a codebook nor what GGUF's types
    have."""
    if weight.interleaved:
        return False
    if weight.codebook is not None or weight.minimums is not None or weight.factors is not None or weight.offset:
        return False
    (columns, width), wide = weight.shape, weight.group[1]
    # The tensor memory accelerator wants rows in steps of 16 bytes.
    return (
        width % (32 if weight.bits == 4 else 16) == 0
        and (weight.scales.shape[1] == 1 or wide % _GROUP == 0)
        and columns <= COLUMNS * _MOST_TILES
    )


def tiling(rows: int, columns: int, width: int, bits: int, processors: int) -> Tiling:
    """For 8, 16, 32 or 64 rows, that of the product which fills the processors as well."""
    output, down, qkv, gate_up = _TILINGS[bits, rows]
    tiles, steps = triton.cdiv(columns, COLUMNS), triton.cdiv(width, DEPTH)
    narrow = output if width <= 4096 else down
    found = narrow if 2 * tiles <= processors else qkv if tiles <= processors else gate_up
    return found._replace(splits=min(found.splits, 1 << (steps.bit_length() - 1)))


def grouped_linear(
    x: Tensor,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    cut: Tiling | None = None,
) -> Tensor:
    """See `octavo_kernels.grouped_linear`. cut: the tiling to take, to measure others."""
    rows, (columns, width) = len(x), weight.shape
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device) if out is None else out
    if rows > MOST_ROWS:
        for part, result in zip(x.split(MOST_ROWS), out.split(MOST_ROWS), strict=True):
            grouped_linear(part, weight, bias, result, cut)
        return out
    padded = max(8, triton.next_power_of_2(rows))
    cut = cut or tiling(padded, columns, width, weight.bits, gpu(x.device).processors)
    programs = triton.cdiv(columns, COLUMNS) * cut.splits
    parts = programs * COLUMNS * padded if cut.splits > 1 else 0
    pairs = weight.values if weight.bits == 4 else weight.values.view(torch.uint16)
    grouped_kernel[(programs,)](
        tiles(x, padded, DEPTH),
        tiles(pairs, COLUMNS, DEPTH // 2),
        weight.scales,
        weight.scales if weight.zeros is None else weight.zeros,
        out if bias is None else bias,
        out,
        torch.empty(parts, dtype=torch.float32, device=x.device),
        no_arrivals(x.device, _MOST_TILES),
        rows,
        columns,
        triton.cdiv(width, DEPTH * cut.splits),
        KIND=_kind(weight),
        ZEROS=weight.zeros is not None,
        BIAS=bias is not None,
        GROUPS=weight.scales.shape[1],
        HIGH=weight.group[0],
        WIDE=weight.group[1],
        ROWS=padded,
        COLUMNS=COLUMNS,
        DEPTH=DEPTH,
        SPLITS=cut.splits,
        STAGES=cut.stages,
        num_warps=4,
        launch_pdl=True,
    )
    return out


def _kind(weight: GroupedWeights) -> Kind:
    if weight.bits == 4:
        return "int4"
    return "int8" if weight.values.dtype == torch.int8 else "fp8"
