"""skinny_linear for Hopper, in Gluon: the weights stream through a ring of stages in shared memory, which the tensor
memory accelerator fills.

The operands change sides: a tile of 64 or 128 columns of the result, rows of the weight, is what the matrix units take
64 rows of, and the few rows of x are padded to 8, 16, 32 or 64 only. The weights do not depend on the kernel in front:
the ring's first stages are asked for before that one has ended, so that the memory is never idle."""

from functools import lru_cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor
from triton.language import constexpr

from octavo_kernels.begun_norm import BegunNorm, rows_of
from octavo_kernels.gate_mul import GatedActivation
from octavo_kernels.gpu import gpu
from octavo_kernels.hopper_products import tiles
from octavo_kernels.skinny_linear import MOST_ROWS
from octavo_kernels.skinny_linear.hopper_kernel import skinny_add_kernel, skinny_kernel, skinny_rotary_kernel
from octavo_kernels.strided import layer_cache

DEPTH = 128  # numbers of a row in a stage


class Tiling(NamedTuple):
    """How a product is cut."""

    columns: int  # of the product in a tile
    stages: int
    splits: int = 1  # parts of the sums of a tile, each a program's


class _Scratch(NamedTuple):
    """What the programs of a tile leave for each other. One kernel uses it at a time."""

    partials: Tensor  # float32, room for a tile of MOST_ROWS for each processor
    arrivals: Tensor  # int32, for each tile, how many of its programs are through; 0 between calls


# The fastest in whole decode steps of Llama-3.1-8B on an H200, where each product's first stages are on their way while
# the one in front ends: for the output and down projections, for query, key and value, for gate and up, and for the
# head; by rows.
_TILINGS = {
    8: (Tiling(64, 6, 4), Tiling(64, 12, 2), Tiling(64, 4, 4), Tiling(128, 3), Tiling(64, 4)),
    16: (Tiling(64, 11, 2), Tiling(64, 9, 2), Tiling(64, 7), Tiling(128, 4), Tiling(64, 3)),
    32: (Tiling(64, 9, 2), Tiling(64, 9, 2), Tiling(64, 6), Tiling(128, 2), Tiling(64, 3)),
    64: (Tiling(64, 6), Tiling(64, 5, 2), Tiling(64, 6), Tiling(128, 2), Tiling(128, 2)),
}


def tiling(rows: int, columns: int, width: int, processors: int, gated: bool = False) -> Tiling:
    """For 8, 16, 32 or 64 rows, that of the product which fills the processors as well. gated: a tile is cut in gates
    and what they multiply."""
    output, down, qkv, gate_up, head = _TILINGS[rows]
    if gated:
        return gate_up
    tiles = triton.cdiv(columns, 64)
    if 2 * tiles <= processors:
        return output if width <= 4096 else down
    if tiles <= processors:
        return qkv
    return gate_up if tiles <= 8 * processors else head


def skinny_linear(
    x: Tensor | BegunNorm,
    weight: Tensor,
    bias: Tensor | None = None,
    out: Tensor | None = None,
    gate: GatedActivation | None = None,
) -> Tensor:
    """See `octavo_kernels.skinny_linear`."""
    norm, x = _norm(x), rows_of(x)
    halves = 1 if gate is None else 2
    rows, columns, width = len(x), len(weight) // halves, weight.shape[1]
    out = torch.empty(rows, columns, dtype=weight.dtype, device=x.device) if out is None else out
    padded = max(8, triton.next_power_of_2(rows))
    cut = tiling(padded, columns, width, gpu(x.device).processors, gate is not None)
    tile = cut.columns // halves
    programs = triton.cdiv(columns, tile) * cut.splits
    scratch = _scratch(x.device)
    skinny_kernel[(programs,)](
        tiles(x, padded, DEPTH),
        norm,
        tiles(weight, tile, DEPTH),
        out if bias is None else bias,
        out,
        scratch.partials,
        scratch.arrivals,
        rows,
        columns,
        triton.cdiv(width, DEPTH * cut.splits),
        BIAS=bias is not None,
        GATE=gate or "",
        ROWS=padded,
        COLUMNS=cut.columns,
        DEPTH=DEPTH,
        SPLITS=cut.splits,
        STAGES=cut.stages,
        num_warps=4,
        launch_pdl=True,
    )
    return out


def skinny_add_linear(
    x: Tensor, weight: Tensor, stream: Tensor, norm_weight: Tensor, eps: float, offset: float = 0.0
) -> BegunNorm:
    """See `octavo_kernels.skinny_linear`."""
    rows, (columns, width) = len(x), weight.shape
    padded = max(8, triton.next_power_of_2(rows))
    cut = tiling(padded, columns, width, gpu(x.device).processors)
    count = triton.cdiv(columns, cut.columns)
    squares = torch.empty(count, padded, dtype=torch.float32, device=x.device)
    begun = BegunNorm(torch.empty_like(stream), squares, eps)
    scratch = _scratch(x.device)
    skinny_add_kernel[(count * cut.splits,)](
        tiles(x, padded, DEPTH),
        tiles(weight, cut.columns, DEPTH),
        stream,
        begun.scaled,
        norm_weight,
        begun.squares,
        scratch.partials,
        scratch.arrivals,
        rows,
        columns,
        triton.cdiv(width, DEPTH * cut.splits),
        OFFSET=offset,
        ROWS=padded,
        COLUMNS=cut.columns,
        DEPTH=DEPTH,
        SPLITS=cut.splits,
        STAGES=cut.stages,
        num_warps=4,
        launch_pdl=True,
    )
    return begun


def skinny_rotary_write_kv(
    x: Tensor | BegunNorm,
    weight: Tensor,
    bias: Tensor | None,
    q: Tensor,
    positions: Tensor,
    cos_sin: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    slots: Tensor,
) -> None:
    """See `octavo_kernels.skinny_linear`."""
    norm, x = _norm(x), rows_of(x)
    rows, (columns, width) = len(x), weight.shape
    block_size, kv_heads, head_dim = k_cache.shape[1:]
    padded = max(8, triton.next_power_of_2(rows))
    cut = tiling(padded, columns, width, gpu(x.device).processors)
    tile = min(cut.columns, head_dim)
    scratch = _scratch(x.device)
    skinny_rotary_kernel[(columns // tile * cut.splits,)](
        tiles(x, padded, DEPTH),
        norm,
        tiles(weight, tile // 2, DEPTH),
        q if bias is None else bias,
        q,
        q.stride(0),
        layer_cache(k_cache, v_cache),
        positions,
        cos_sin,
        slots,
        scratch.partials,
        scratch.arrivals,
        rows,
        triton.cdiv(width, DEPTH * cut.splits),
        Q_HEADS=q.shape[1],
        KV_HEADS=kv_heads,
        HALF=head_dim // 2,
        BLOCK_SIZE=block_size,
        BIAS=bias is not None,
        ROWS=padded,
        COLUMNS=tile,
        DEPTH=DEPTH,
        SPLITS=cut.splits,
        STAGES=cut.stages,
        num_warps=4,
        launch_pdl=True,
    )


def _norm(x: Tensor | BegunNorm) -> tuple[Tensor, int, constexpr, int, float] | None:
    """What a kernel takes as x's norm."""
    if isinstance(x, Tensor):
        return None
    tiles, rows = x.squares.shape
    return x.squares, tiles, constexpr(rows), x.scaled.shape[1], x.eps


@lru_cache
def _scratch(device: torch.device) -> _Scratch:
    processors = gpu(device).processors
    return _Scratch(
        torch.empty(processors * 64 * MOST_ROWS, dtype=torch.float32, device=device),
        torch.zeros(processors, dtype=torch.int32, device=device),
    )
