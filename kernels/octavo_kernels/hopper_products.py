"""What the products for Hopper share, in Gluon: the tiles that the tensor memory accelerator reads, the
sums of programs that share a tile, and what becomes of queries, keys and values."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from functools import lru_cache

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from octavo_kernels.write_kv.triton import finite

_ELEMENTS = {
    torch.bfloat16: gl.bfloat16,
    torch.float16: gl.float16,
    torch.uint8: gl.uint8,
    torch.uint16: gl.uint16,
    torch.int32: gl.int32,
}


def tiles(matrix: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """A matrix, read so many rows and columns at a time; what is beyond it reads as 0."""
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], _ELEMENTS[matrix.dtype])
    return TensorDescriptor(matrix, list(matrix.shape), [matrix.stride(0), 1], [rows, columns], layout)


@lru_cache
def no_arrivals(device: torch.device, most: int) -> Tensor:
    """What `summed` counts in, for up to so many tiles, the same tensor at each call: one kernel uses it at a time."""
    return torch.zeros(most, dtype=torch.int32, device=device)


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


@gluon.jit
def write_turned(
    front,
    back,
    cos,
    sin,
    q,
    stride_q,
    cache,
    slot,
    rows,
    head,
    within,
    Q_HEADS: gl.constexpr,
    KV_HEADS: gl.constexpr,
    HALF: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
):
    """Turns entries of the first half of a head and the same ones of its second, [entries, rows] float32, as
    rotary_write_kv does, and writes them to q, or into their slots.

    cos, sin: like front; q: [rows, Q_HEADS * 2 * HALF], its rows stride_q apart; cache: `LayerCache` [blocks,
    BLOCK_SIZE, KV_HEADS, 2 * HALF]; both of one 16-bit type. slot: of each of the rows; `rows` of them are there. head:
    counts queries, then keys, then values; within: which entries of its half they are."""
    layout: gl.constexpr = front.type.layout
    element: gl.constexpr = q.dtype.element_ty
    row = gl.arange(0, front.shape[1], layout=gl.SliceLayout(0, layout))
    # Rounded as the product by itself is.
    front = front.to(element)
    back = back.to(element)
    turned_front = (front.to(gl.float32) * cos - back.to(gl.float32) * sin).to(element)
    turned_back = (back.to(gl.float32) * cos + front.to(gl.float32) * sin).to(element)
    if head < Q_HEADS:
        queries = q + row.to(gl.int64)[None, :] * stride_q + head * (2 * HALF) + within[:, None]
        gl.store(queries, turned_front, mask=(row < rows)[None, :])
        gl.store(queries + HALF, turned_back, mask=(row < rows)[None, :])
    else:
        place = slot // BLOCK_SIZE * cache.stride_block + slot % BLOCK_SIZE * cache.stride_slot
        place += (head - Q_HEADS) % KV_HEADS * cache.stride_head
        offsets = place[None, :] + within[:, None]
        kept = (slot >= 0)[None, :]
        if head < Q_HEADS + KV_HEADS:
            gl.store(cache.k + offsets, turned_front, mask=kept)
            gl.store(cache.k + offsets + HALF, turned_back, mask=kept)
        else:
            gl.store(cache.v + offsets, finite(front), mask=kept)
            gl.store(cache.v + offsets + HALF, finite(back), mask=kept)
