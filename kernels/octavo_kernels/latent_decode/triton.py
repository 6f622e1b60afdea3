"""latent_decode in Triton: a program attends with a block of heads to one part of one sequence (Flash-Decoding, Dao et
al., 2023).

All heads see the same keys, so a tile of the cache, once read, serves a whole block of heads in two products, and what
it is multiplied with as values is in the program's hands already. Parts are weighed together by paged_decode's
`combine_kernel`; how many there are depends on shapes and on the GPU alone, never on lengths.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.gpu import gpu
from octavo_kernels.online_softmax import HIDDEN, LOG2_E, load_rows
from octavo_kernels.paged_decode.triton import combine_kernel, split_range
from octavo_kernels.strided import heads

SMALLEST_DOT = 16  # rows and columns that tl.dot needs on a GPU
MOST_SPLITS = 64
PROGRAMS_PER_PROCESSOR = 2


class Tile(NamedTuple):
    """What one program works on at a time, and how."""

    heads: int
    positions: int
    warps: int
    stages: int  # of the software pipeline


# For a latent of up to 512. Larger tiles exceed the shared memory: 227 KB on Hopper, 99 KB on consumer GPUs.
HOPPER_TILE = Tile(64, 32, 8, 2)
TILE = Tile(16, 32, 4, 2)
FLOAT32_TILE = Tile(16, 16, 4, 1)
HOPPER_SHARED_MEMORY = 227 << 10


@triton.jit(do_not_specialize=["stride_table"])
def decode_kernel(
    out,
    partial_out,
    partial_log_sum,
    q,
    cache,
    stride_block,
    stride_slot,
    block_tables,
    stride_table,
    seq_lens,
    scale_log2,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    RANK: tl.constexpr,
    PADDED_RANK: tl.constexpr,
    ROPE: tl.constexpr,
    PADDED_ROPE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Attends with ROWS heads to one part of one sequence. Grid: (blocks of heads, batch, SPLITS).

    out: `Heads` [batch, HEADS, RANK]; q: `Heads` [batch, HEADS, RANK + ROPE]; cache: [blocks, BLOCK_SIZE, RANK + ROPE],
    the last dimension contiguous; all of one float type. block_tables: [batch, width] int32; seq_lens: [batch] int32.
    Of several parts it writes partial_out: [batch, HEADS, SPLITS, RANK] float32, the part's attention, and
    partial_log_sum: [batch, HEADS, SPLITS] float32, log2 of the sum of its exponentials; of a single one, out.
    scale_log2: the scores' scale * LOG2_E. TILE: positions in one iteration. PADDED_RANK, PADDED_ROPE: up to powers of
    two that tl.dot takes."""
    sequence = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    seq_len = tl.load(seq_lens + sequence)
    start, end = split_range(seq_len, split, TILE, SPLITS, 0)
    if start >= end:
        return

    head = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_head = head < HEADS
    q_rows = sequence * q.stride_token + head * q.stride_head
    query = load_rows(q.pointer, q_rows, is_head, True, RANK, PADDED_RANK)
    turned_query = load_rows(q.pointer + RANK, q_rows, is_head, True, ROPE, PADDED_ROPE)
    block_table = block_tables + sequence * stride_table
    weighted = tl.zeros([ROWS, PADDED_RANK], tl.float32)
    row_max = tl.full([ROWS], HIDDEN, tl.float32)
    row_sum = tl.zeros([ROWS], tl.float32)
    # Block ids are loaded one iteration ahead, as in `online_softmax.attend`.
    position = start + tl.arange(0, TILE)
    block = tl.load(block_table + position // BLOCK_SIZE, mask=position < end, other=0)
    for tile_start in tl.range(start, end, TILE, num_stages=STAGES):
        position = tile_start + tl.arange(0, TILE)
        # 64 bits: a cache may hold more than 2**31 elements.
        offsets = block.to(tl.int64) * stride_block + (position % BLOCK_SIZE) * stride_slot
        # Slots beyond the sequence may hold anything: their weight is 0, and 0 * NaN would be NaN.
        is_token = position < end
        latent = load_rows(cache, offsets, is_token, True, RANK, PADDED_RANK)
        turned = load_rows(cache + RANK, offsets, is_token, True, ROPE, PADDED_ROPE)
        following = position + TILE
        block = tl.load(block_table + following // BLOCK_SIZE, mask=following < end, other=0)

        scores = tl.dot(query, tl.trans(latent), input_precision="ieee")
        scores = tl.dot(turned_query, tl.trans(turned), acc=scores, input_precision="ieee") * scale_log2
        scores = tl.where(is_token[None, :], scores, HIDDEN)
        new_max = tl.maximum(row_max, tl.max(scores, 1))
        weights = tl.exp2(scores - new_max[:, None])
        correction = tl.exp2(row_max - new_max)
        row_sum = row_sum * correction + tl.sum(weights, 1)
        weighted = tl.dot(weights.to(latent.dtype), latent, acc=weighted * correction[:, None], input_precision="ieee")
        row_max = new_max
    attended = weighted / row_sum[:, None]

    dim = tl.arange(0, PADDED_RANK)
    store_mask = is_head[:, None] & (dim < RANK)[None, :]
    if SPLITS == 1:
        rows = sequence * out.stride_token + head * out.stride_head
        pointers = out.pointer + rows[:, None] + dim[None, :]
        tl.store(pointers, attended.to(out.pointer.dtype.element_ty), mask=store_mask)
    else:
        part = (sequence * HEADS + head) * SPLITS + split
        tl.store(partial_out + part[:, None] * RANK + dim[None, :], attended, mask=store_mask)
        tl.store(partial_log_sum + part, row_max + tl.log2(row_sum), mask=is_head)


def latent_decode(
    q: Tensor,
    cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    rank: int,
    out: Tensor | None = None,
) -> Tensor:
    """See `octavo_kernels.latent_decode`."""
    batch, num_heads, width = q.shape
    rope, block_size = width - rank, cache.shape[1]
    out = torch.empty(batch, num_heads, rank, dtype=q.dtype, device=q.device) if out is None else out
    tile = _tile(q.dtype, q.device)
    rows = min(tile.heads, max(SMALLEST_DOT, triton.next_power_of_2(num_heads)))
    head_blocks = triton.cdiv(num_heads, rows)
    longest = triton.cdiv(block_tables.shape[1] * block_size, tile.positions)
    splits = _splits(batch * head_blocks, longest, q.device)
    partial_out, partial_log_sum = out, out  # not touched when there is one part
    if splits > 1:
        partial_out = torch.empty(batch, num_heads, splits, rank, dtype=torch.float32, device=q.device)
        partial_log_sum = torch.empty(batch, num_heads, splits, dtype=torch.float32, device=q.device)

    decode_kernel[(head_blocks, batch, splits)](
        heads(out),
        partial_out,
        partial_log_sum,
        heads(q),
        cache,
        *cache.stride()[:2],
        block_tables,
        block_tables.stride(0),
        seq_lens,
        scale * LOG2_E,
        HEADS=num_heads,
        ROWS=rows,
        RANK=rank,
        PADDED_RANK=max(SMALLEST_DOT, triton.next_power_of_2(rank)),
        ROPE=rope,
        PADDED_ROPE=max(SMALLEST_DOT, triton.next_power_of_2(rope)),
        BLOCK_SIZE=block_size,
        TILE=tile.positions,
        SPLITS=splits,
        STAGES=tile.stages,
        num_warps=tile.warps,
    )
    if splits > 1:
        combine_kernel[(num_heads, batch)](
            heads(out),
            partial_out,
            partial_log_sum,
            seq_lens,
            None,
            HEAD_DIM=rank,
            PADDED_DIM=triton.next_power_of_2(rank),
            TILE=tile.positions,
            SPLITS=splits,
            WINDOW=0,
            num_warps=4,
        )
    return out


def _tile(dtype: torch.dtype, device: torch.device) -> Tile:
    if dtype == torch.float32:
        return FLOAT32_TILE
    return HOPPER_TILE if gpu(device).shared_memory >= HOPPER_SHARED_MEMORY else TILE


def _splits(pairs: int, tiles: int, device: torch.device) -> int:
    """Parts of a sequence, a power of two: enough to fill the GPU with `pairs` of (sequence, block of heads)."""
    wanted = gpu(device).processors * PROGRAMS_PER_PROCESSOR // pairs
    most = max(1, min(wanted, tiles, MOST_SPLITS))
    return 1 << (most.bit_length() - 1)
