"""grouped_linear for Hopper, in Gluon, for up to 64 rows of weights in small groups, as GGUF's types have: the weights
stream through a ring of stages in shared memory, and are unpacked into the registers from which the matrix units take
them.

The operands change sides, so that columns of the result fill the matrix units and few rows of x are padded to few, and
the ring's first stages are asked for before the kernel in front has ended. The numbers lie in the order in which
threads take them (`interleaving`), so that one reads 16 bytes at once. A group's sum is multiplied by its scale, not
each of its weights; what zero points and minimums make of it is x's sum over the group times so much, which the matrix
units bring too."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gpu import gpu
from octavo_kernels.grouped_linear import MOST_ROWS, GroupedWeights
from octavo_kernels.grouped_linear.interleaved_kernel import interleaved_kernel
from octavo_kernels.grouped_linear.interleaving import groups_in_block, interleaves
from octavo_kernels.hopper_products import no_arrivals

DEPTH = 256  # numbers of a row in a stage
_MOST_TILES = 8192


class Tiling(NamedTuple):
    """How a product is cut."""

    stages: int
    splits: int  # parts of the sums of a tile, each a program's
    columns: int  # of the product in a tile, rows of the weight
    warps: int


# The fastest on an H200 for Llama-3.1-8B's output and down projections, for query, key and value, and for gate and up
# with the gate; by bits and rows.
_TILINGS = {
    (4, 1): (Tiling(3, 8, 64, 2), Tiling(3, 8, 64, 4), Tiling(3, 4, 64, 4), Tiling(6, 1, 64, 2)),
    (4, 8): (Tiling(3, 8, 64, 4), Tiling(3, 8, 64, 4), Tiling(3, 4, 64, 4), Tiling(4, 1, 64, 4)),
    (4, 16): (Tiling(6, 4, 64, 4), Tiling(3, 8, 64, 2), Tiling(3, 4, 64, 4), Tiling(3, 1, 64, 2)),
    (4, 32): (Tiling(2, 4, 64, 4), Tiling(2, 4, 64, 4), Tiling(2, 2, 64, 4), Tiling(3, 1, 64, 4)),
    (4, 64): (Tiling(2, 4, 128, 8), Tiling(2, 4, 128, 8), Tiling(2, 2, 128, 8), Tiling(2, 1, 64, 4)),
    (6, 1): (Tiling(3, 8, 64, 4), Tiling(3, 8, 64, 2), Tiling(3, 4, 64, 2), Tiling(3, 1, 64, 2)),
    (6, 8): (Tiling(3, 8, 64, 4), Tiling(3, 8, 64, 4), Tiling(3, 4, 64, 4), Tiling(3, 2, 64, 4)),
    (6, 16): (Tiling(3, 8, 64, 4), Tiling(3, 8, 64, 4), Tiling(3, 4, 64, 4), Tiling(3, 2, 64, 4)),
    (6, 32): (Tiling(2, 4, 128, 8), Tiling(2, 4, 128, 8), Tiling(2, 2, 64, 4), Tiling(2, 1, 128, 8)),
    (6, 64): (Tiling(2, 4, 128, 8), Tiling(2, 4, 128, 8), Tiling(2, 2, 128, 8), Tiling(2, 1, 128, 8)),
    (8, 1): (Tiling(3, 8, 64, 4), Tiling(3, 8, 64, 4), Tiling(3, 4, 64, 4), Tiling(3, 1, 128, 4)),
    (8, 8): (Tiling(3, 4, 64, 4), Tiling(4, 4, 64, 4), Tiling(3, 4, 64, 4), Tiling(3, 1, 128, 4)),
    (8, 16): (Tiling(3, 4, 64, 4), Tiling(4, 4, 64, 4), Tiling(3, 4, 64, 4), Tiling(3, 1, 128, 4)),
    (8, 32): (Tiling(3, 4, 64, 4), Tiling(3, 4, 64, 4), Tiling(2, 4, 64, 4), Tiling(3, 1, 64, 4)),
    (8, 64): (Tiling(3, 2, 64, 4), Tiling(3, 4, 128, 8), Tiling(2, 2, 64, 4), Tiling(2, 1, 64, 4)),
}


class Factors(NamedTuple):
    """What the numbers are scaled and shifted by, as GroupedWeights has it."""

    scales: Tensor
    zeros: Tensor | None
    minimums: Tensor | None
    supers: Tensor | None


class Form(NamedTuple):
    """What a program knows of a weight when it is compiled."""

    bits: int
    groups: int  # of columns
    wide: int  # columns of a group
    in_block: int  # groups whose scales lie together
    has_zeros: bool
    has_minimums: bool
    offset: int
    supers: int  # of columns, which share factors; 0: scales are not nested


def fits(x: Tensor, weight: GroupedWeights) -> bool:
    """Whether this form computes x [rows, in] by the weight."""
    return weight.interleaved and x.dtype != torch.float32 and 0 < len(x) <= MOST_ROWS


def takes(weight: GroupedWeights) -> bool:
    """Whether this form multiplies by a weight once it is interleaved: by integers, in small groups of one row."""
    is_integer = weight.codebook is None and weight.values.dtype != torch.float8_e4m3fn
    return is_integer and interleaves(weight) and len(weight.values) <= 32 * _MOST_TILES


def tiling(rows: int, columns: int, width: int, bits: int, processors: int) -> Tiling:
    """For a weight [columns, width] and 1, 8, 16, 32 or 64 rows, that of the product which fills the processors as
    well."""
    output, down, qkv, gate_up = _TILINGS[6 if bits == 5 else bits, rows]
    tiles, steps = triton.cdiv(columns, 64), triton.cdiv(width, DEPTH)
    narrow = output if width <= 4096 else down
    found = narrow if 2 * tiles <= processors else qkv if tiles <= processors else gate_up
    return found._replace(splits=min(found.splits, 1 << (steps.bit_length() - 1)))


def form_of(weight: GroupedWeights) -> Form:
    """What the kernel is compiled for."""
    return Form(
        bits=weight.bits,
        groups=weight.scales.shape[1],
        wide=weight.group[1],
        in_block=groups_in_block(weight),
        has_zeros=weight.zeros is not None,
        has_minimums=weight.minimums is not None,
        offset=weight.offset,
        supers=0 if weight.factors is None else weight.factors.shape[2],
    )


def grouped_linear(
    x: Tensor,
    weight: GroupedWeights,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
    cut: Tiling | None = None,
) -> Tensor:
    """See `octavo_kernels.grouped_linear`, of an interleaved weight. cut: the tiling to take, to measure others."""
    halves = 1 if gate is None else 2
    rows, columns, width = len(x), weight.shape[0] // halves, weight.shape[1]
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device) if out is None else out
    form = form_of(weight)
    padded = max(8, triton.next_power_of_2(rows))
    cut = cut or tiling(1 if rows == 1 else padded, len(weight.values), width, form.bits, gpu(x.device).processors)
    tile = cut.columns // halves
    programs = triton.cdiv(columns, tile) * cut.splits
    parts = programs * cut.columns * padded if cut.splits > 1 else 0
    interleaved_kernel[(programs,)](
        x,
        weight.values.view(torch.int32),
        None if weight.upper is None else weight.upper.view(torch.int32),
        Factors(weight.scales, weight.zeros, weight.minimums, weight.factors),
        out if bias is None else bias,
        out,
        torch.empty(parts, dtype=torch.float32, device=x.device),
        no_arrivals(x.device, _MOST_TILES),
        rows,
        columns,
        triton.cdiv(width, DEPTH * cut.splits),
        FORM=form,
        BIAS=bias is not None,
        GATE=gate or "",
        WIDTH=width,
        ROWS=padded,
        COLUMNS=cut.columns,
        SPLITS=cut.splits,
        STAGES=cut.stages,
        DEPTH=DEPTH,
        WARPS=cut.warps,
        IS_ONE=rows == 1,
        num_warps=cut.warps,
        launch_pdl=True,
    )
    return out
