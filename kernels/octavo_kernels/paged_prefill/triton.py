"""paged_prefill in Triton (FlashAttention-2, Dao, 2023, over a paged cache).

The query rows of one KV head, (token, head of its group) in that order, are cut into tiles, one program each. Packing
the group into the rows reads each key once for all its heads, and fills a tile with few tokens when a chunk is short.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.eight_bits_kernels import as_bytes, kind_of
from octavo_kernels.gpu import gpu
from octavo_kernels.online_softmax import LOG2_E, attend, begin_with_sinks, load_rows, load_slopes
from octavo_kernels.strided import heads, layer_cache


class Tile(NamedTuple):
    """What one program works on at a time, and how."""

    rows: int  # of queries; at least 16, which is what tl.dot needs on a GPU
    positions: int  # of keys; likewise
    warps: int
    stages: int  # of the software pipeline


# By padded head size. Larger tiles spill registers or exceed shared memory: 227 KB on Hopper, 99 KB on consumer GPUs.
HOPPER_TILES = {64: Tile(128, 128, 8, 3), 128: Tile(128, 128, 8, 3), 256: Tile(128, 32, 8, 2)}
TILES = {64: Tile(128, 64, 8, 2), 128: Tile(128, 32, 8, 2), 256: Tile(64, 32, 4, 2)}
SHORT_TILE = Tile(16, 32, 4, 2)  # for the queries of a decode step
FLOAT32_TILE = Tile(32, 16, 8, 2)  # exact float32 has no tensor cores: its operands live in registers
HOPPER_SHARED_MEMORY = 227 << 10


@triton.jit(do_not_specialize=["stride_table"])
def prefill_kernel(
    out,
    q,
    cache,
    block_tables,
    stride_table,
    seq_lens,
    query_start,
    sinks,
    slopes,
    scale_log2,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    KIND: tl.constexpr,
    scales,
    CAUSAL: tl.constexpr,
):
    """Attention of one tile of a sequence's queries with one KV head. Grid: (batch * KV_HEADS, tiles of the
    longest run of queries).

    out, q: `Heads` [tokens, KV_HEADS * GROUP, HEAD_DIM]; cache: `LayerCache` [blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM];
    all of one float type, or the cache of 8 bits: KIND, see `attend`; scales: [2, KV_HEADS]
    float32. block_tables: [batch, width] int32; seq_lens: [batch] int32; query_start: [batch + 1] int32.
    sinks, slopes: [KV_HEADS * GROUP] float32 or None. scale_log2: the scores' scale * LOG2_E. ROWS: (token, head)
    pairs in a tile. PADDED_DIM: HEAD_DIM, up to a power of two. TILE, STAGES, WINDOW, SOFTCAP, CAUSAL: see
    `attend`."""
    kv_head = tl.program_id(0) % KV_HEADS
    sequence = (tl.program_id(0) // KV_HEADS).to(tl.int64)
    # The last rows see the most keys: started first, they are not what the GPU waits for in the end.
    first_row = (tl.num_programs(1) - 1 - tl.program_id(1)) * ROWS
    first_query = tl.load(query_start + sequence)
    queries = tl.load(query_start + sequence + 1) - first_query
    if first_row >= queries * GROUP:
        return
    seq_len = tl.load(seq_lens + sequence)
    context = seq_len - queries  # tokens in front of the first query

    row = first_row + tl.arange(0, ROWS)
    token = row // GROUP
    head = kv_head * GROUP + row % GROUP
    is_query = token < queries
    packed = (first_query + token).to(tl.int64)
    q_rows = packed * q.stride_token + head * q.stride_head
    query = load_rows(q.pointer, q_rows, is_query, True, HEAD_DIM, PADDED_DIM)

    if KIND != 0:
        scale_log2 *= tl.load(scales + kv_head)
    # The first row sees the least; of its positions those in front of its window are nobody's.
    seen_by_first = context + first_row // GROUP + 1
    seen_by_last = context + (first_row + ROWS - 1) // GROUP + 1
    if CAUSAL:
        end = tl.minimum(seq_len, seen_by_last)
    elif WINDOW != 0:
        end = tl.minimum(seq_len, seen_by_last + WINDOW - 1)
    else:
        end = seq_len
    block_table = block_tables + sequence * stride_table
    softmax = begin_with_sinks(sinks, head, is_query, ROWS, PADDED_DIM)
    row_slopes = load_slopes(slopes, head, is_query)
    if WINDOW != 0:
        masked_from = tl.maximum(seen_by_first - WINDOW, 0) // TILE * TILE
    else:
        masked_from = (seen_by_first if CAUSAL else seq_len) // TILE * TILE
        softmax = attend(
            softmax,
            query,
            context + token,
            cache,
            kv_head,
            block_table,
            0,
            masked_from,
            scale_log2,
            row_slopes,
            False,
            HEAD_DIM,
            PADDED_DIM,
            BLOCK_SIZE,
            TILE,
            STAGES,
            WINDOW,
            SOFTCAP,
            KIND,
            CAUSAL,
        )
    weighted, _, row_sum = attend(
        softmax,
        query,
        context + token,
        cache,
        kv_head,
        block_table,
        masked_from,
        end,
        scale_log2,
        row_slopes,
        True,
        HEAD_DIM,
        PADDED_DIM,
        BLOCK_SIZE,
        TILE,
        STAGES,
        WINDOW,
        SOFTCAP,
        KIND,
        CAUSAL,
    )

    dim = tl.arange(0, PADDED_DIM)
    pointers = out.pointer + (packed * out.stride_token + head * out.stride_head)[:, None] + dim[None, :]
    attended = weighted / row_sum[:, None]
    if KIND != 0:
        attended *= tl.load(scales + KV_HEADS + kv_head)
    tl.store(pointers, attended.to(out.pointer.dtype.element_ty), mask=is_query[:, None] & (dim < HEAD_DIM)[None, :])


def paged_prefill(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    max_query_len: int,
    scale: float,
    out: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    scales: Tensor | None = None,
    causal: bool = True,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`."""
    _, q_heads, head_dim = q.shape
    block_size, kv_heads = k_cache.shape[1:3]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    batch = len(seq_lens)
    if batch == 0 or max_query_len == 0:
        return out

    group = q_heads // kv_heads
    padded_dim = triton.next_power_of_2(head_dim)
    query_rows = max_query_len * group
    tile = _tile(padded_dim, q.dtype, query_rows, q.device)
    prefill_kernel[(batch * kv_heads, triton.cdiv(query_rows, tile.rows))](
        heads(out),
        heads(q),
        layer_cache(as_bytes(k_cache), as_bytes(v_cache)),
        block_tables,
        block_tables.stride(0),
        seq_lens,
        query_start,
        sinks,
        slopes,
        scale * LOG2_E,
        KV_HEADS=kv_heads,
        GROUP=group,
        ROWS=tile.rows,
        HEAD_DIM=head_dim,
        PADDED_DIM=padded_dim,
        BLOCK_SIZE=block_size,
        TILE=tile.positions,
        STAGES=tile.stages,
        WINDOW=window or 0,
        SOFTCAP=softcap or 0.0,
        KIND=kind_of(k_cache),
        scales=scales,
        CAUSAL=causal,
        num_warps=tile.warps,
    )
    return out


def _tile(padded_dim: int, dtype: torch.dtype, query_rows: int, device: torch.device) -> Tile:
    if dtype == torch.float32:
        return FLOAT32_TILE
    if query_rows <= SHORT_TILE.rows:
        return SHORT_TILE
    tiles = HOPPER_TILES if gpu(device).shared_memory >= HOPPER_SHARED_MEMORY else TILES
    return tiles[max(64, padded_dim)]
