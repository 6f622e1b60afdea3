"""What the products of few rows for Hopper share, in Gluon: the tiles that the tensor memory accelerator reads, and the
sums of programs that share a tile."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

_ELEMENTS = {
    torch.bfloat16: gl.bfloat16,
    torch.float16: gl.float16,
    torch.uint8: gl.uint8,
    torch.uint16: gl.uint16,
}


def tiles(matrix: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """A matrix, read so many rows and columns at a time; what is beyond it reads as 0."""
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], _ELEMENTS[matrix.dtype])
    return TensorDescriptor(matrix, list(matrix.shape), [matrix.stride(0), 1], [rows, columns], layout)


@gluon.jit
def summed(
    sums,
    partials,
    arrivals,
    program,
    tile,
    COLUMNS: gl.constexpr,
    ROWS: gl.constexpr,
    SPLITS: gl.constexpr,
    layout: gl.constexpr,
):
    """A tile's sums [COLUMNS, ROWS] float32 over its SPLITS programs, and whether this is the last of them, which has
    them: the sums of the others are their own parts.

    partials: [programs, COLUMNS, ROWS] float32; arrivals: int32, for each tile how many of its programs are through; 0
    before and after. Not touched if SPLITS is 1."""
    last = True
    if SPLITS > 1:
        column = gl.arange(0, COLUMNS, layout=gl.SliceLayout(1, layout))
        row = gl.arange(0, ROWS, layout=gl.SliceLayout(0, layout))
        within = column[:, None] * ROWS + row[None, :]
        gl.store(partials + program * (COLUMNS * ROWS) + within, sums)
        gl.thread_barrier()  # all threads' parts are there before they are counted
        last = gl.atomic_add(arrivals + tile, 1, sem="acq_rel", scope="gpu") == SPLITS - 1
        if last:
            sums = gl.zeros([COLUMNS, ROWS], gl.float32, layout=layout)
            for split in gl.static_range(SPLITS):
                part = partials + (tile * SPLITS + split) * (COLUMNS * ROWS) + within
                sums += gl.load(part, cache_modifier=".cg")
            gl.store(arrivals + tile, 0)  # for the next call
    return sums, last
