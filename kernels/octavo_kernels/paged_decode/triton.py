"""paged_decode in Triton: each sequence is split over several programs (Flash-Decoding, Dao et al., 2023).

One program attends with the query heads of one KV head to one part of one sequence. If there is more than one part,
the programs leave normalised partial results, and `combine_kernel` weighs them together. How many parts there are
depends on shapes and on the GPU alone, never on lengths: a sequence that is too short leaves its last parts empty.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.eight_bits_kernels import as_bytes, kind_of
from octavo_kernels.gpu import gpu
from octavo_kernels.online_softmax import HIDDEN, LOG2_E, attend, begin, begin_with_sinks, load_rows, load_slopes
from octavo_kernels.strided import heads, layer_cache

_LOG2_E = tl.constexpr(LOG2_E)
SMALLEST_DOT = 16  # rows and columns that tl.dot needs on a GPU
TILE_BYTES = 16_384  # of keys, and as much of values, in one iteration
STAGES = 3
PROGRAMS_PER_PROCESSOR = 4
MOST_SPLITS = 64


@triton.jit
def split_range(seq_len, split, TILE: tl.constexpr, SPLITS: tl.constexpr, WINDOW: tl.constexpr):
    """(start, end) of the positions that part `split` of a sequence covers: whole tiles; the last parts may be shorter
    or empty. The tiles in front of the window belong to no part."""
    first = 0
    if WINDOW != 0:
        first = tl.maximum(seq_len - WINDOW, 0) // TILE * TILE
    length = tl.cdiv(tl.cdiv(seq_len - first, TILE), SPLITS) * TILE
    start = first + split * length
    return start, tl.minimum(seq_len, start + length)


@triton.jit(do_not_specialize=["stride_table"])
def decode_kernel(
    out,
    partial_out,
    partial_log_sum,
    q,
    cache,
    block_tables,
    stride_table,
    seq_lens,
    sinks,
    slopes,
    scale_log2,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    STAGES: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    KIND: tl.constexpr,
    scales,
):
    """Attends with the query heads of one KV head to one part of one sequence. Grid: (KV heads, batch, SPLITS).

    out, q: `Heads` [batch, KV heads * GROUP, HEAD_DIM]; cache: `LayerCache` [blocks, BLOCK_SIZE, KV heads, HEAD_DIM];
    all of one float type, or the cache of 8 bits: KIND, see `attend`; scales: [2, KV heads]
    float32. block_tables: [batch, width] int32; seq_lens: [batch] int32. Of several parts it writes partial_out:
    [batch, heads, SPLITS, HEAD_DIM] float32, the part's attention, and partial_log_sum: [batch, heads, SPLITS]
    float32, log2 of the sum of its exponentials; of a single one, out. sinks: [heads] float32 or None; a single
    part counts them in. slopes: [heads] float32 or None. scale_log2: the scores' scale * LOG2_E.
    ROWS: GROUP, up to a power of two that tl.dot takes. PADDED_DIM: HEAD_DIM, up to a power of two. TILE, STAGES,
    WINDOW, SOFTCAP: see `attend`."""
    kv_head = tl.program_id(0)
    sequence = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    seq_len = tl.load(seq_lens + sequence)
    start, end = split_range(seq_len, split, TILE, SPLITS, WINDOW)
    if start >= end:
        return

    row = tl.arange(0, ROWS)
    in_group = row < GROUP
    head = kv_head * GROUP + row
    q_rows = sequence * q.stride_token + head * q.stride_head
    query = load_rows(q.pointer, q_rows, in_group, ROWS != GROUP, HEAD_DIM, PADDED_DIM)
    if KIND != 0:
        scale_log2 *= tl.load(scales + kv_head)
    softmax = begin(ROWS, PADDED_DIM)
    if SPLITS == 1:
        softmax = begin_with_sinks(sinks, head, in_group, ROWS, PADDED_DIM)
    weighted, row_max, row_sum = attend(
        softmax,
        query,
        tl.full([ROWS], 0, tl.int32) + (seq_len - 1),
        cache,
        kv_head,
        block_tables + sequence * stride_table,
        start,
        end,
        scale_log2,
        load_slopes(slopes, head, in_group),
        True,
        HEAD_DIM,
        PADDED_DIM,
        BLOCK_SIZE,
        TILE,
        STAGES,
        WINDOW,
        SOFTCAP,
        KIND,
    )
    attended = weighted / row_sum[:, None]
    if KIND != 0:
        attended *= tl.load(scales + tl.num_programs(0) + kv_head)

    dim = tl.arange(0, PADDED_DIM)
    store_mask = in_group[:, None] & (dim < HEAD_DIM)[None, :]
    if SPLITS == 1:
        rows = sequence * out.stride_token + head * out.stride_head
        pointers = out.pointer + rows[:, None] + dim[None, :]
        tl.store(pointers, attended.to(out.pointer.dtype.element_ty), mask=store_mask)
    else:
        partial = (sequence * tl.num_programs(0) * GROUP + head) * SPLITS + split
        tl.store(partial_out + partial[:, None] * HEAD_DIM + dim[None, :], attended, mask=store_mask)
        tl.store(partial_log_sum + partial, row_max + tl.log2(row_sum), mask=in_group)


@triton.jit
def combine_kernel(
    out,
    partial_out,
    partial_log_sum,
    seq_lens,
    sinks,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """Weighs a head's partial results together. Grid: (query heads, batch).

    out: `Heads` [batch, heads, HEAD_DIM], any float, is written. partial_out: [batch, heads, SPLITS, HEAD_DIM] float32;
    partial_log_sum: [batch, heads, SPLITS] float32; seq_lens: [batch] int32; sinks: [heads] float32 or None.
    PADDED_DIM, TILE, WINDOW: as for `decode_kernel`."""
    head = tl.program_id(0)
    sequence = tl.program_id(1).to(tl.int64)
    seq_len = tl.load(seq_lens + sequence)
    split = tl.arange(0, SPLITS)
    dim = tl.arange(0, PADDED_DIM)
    start, _ = split_range(seq_len, split, TILE, SPLITS, WINDOW)
    written = start < seq_len
    partial = (sequence * tl.num_programs(0) + head) * SPLITS + split

    log_sum = tl.load(partial_log_sum + partial, mask=written, other=HIDDEN)
    attended = tl.load(
        partial_out + partial[:, None] * HEAD_DIM + dim[None, :],
        mask=written[:, None] & (dim < HEAD_DIM)[None, :],
        other=0.0,
    )
    largest = tl.max(log_sum, 0)
    weight = tl.exp2(log_sum - largest)
    total = tl.sum(weight, 0)
    if sinks is not None:
        total += tl.exp2(tl.load(sinks + head) * _LOG2_E - largest)
    combined = tl.sum(attended * weight[:, None], 0) / total
    pointers = out.pointer + sequence * out.stride_token + head * out.stride_head + dim
    tl.store(pointers, combined.to(out.pointer.dtype.element_ty), mask=dim < HEAD_DIM)


def paged_decode(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    scale: float,
    out: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    slopes: Tensor | None = None,
    scales: Tensor | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_decode`."""
    batch, q_heads, head_dim = q.shape
    block_size, kv_heads = k_cache.shape[1:3]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    group = q_heads // kv_heads
    padded_dim = triton.next_power_of_2(head_dim)
    tile = min(128, max(SMALLEST_DOT, TILE_BYTES // (padded_dim * q.itemsize)))
    longest = block_tables.shape[1] * block_size
    if window is not None:
        longest = min(longest, window + tile - 1)  # of the first tile the window may begin in the last position
    splits = _splits(batch * kv_heads, triton.cdiv(longest, tile), q.device)
    partial_out, partial_log_sum = out, out  # not touched when there is one part
    if splits > 1:
        partial_out = torch.empty(batch, q_heads, splits, head_dim, dtype=torch.float32, device=q.device)
        partial_log_sum = torch.empty(batch, q_heads, splits, dtype=torch.float32, device=q.device)

    decode_kernel[(kv_heads, batch, splits)](
        heads(out),
        partial_out,
        partial_log_sum,
        heads(q),
        layer_cache(as_bytes(k_cache), as_bytes(v_cache)),
        block_tables,
        block_tables.stride(0),
        seq_lens,
        sinks,
        slopes,
        scale * LOG2_E,
        GROUP=group,
        ROWS=max(SMALLEST_DOT, triton.next_power_of_2(group)),
        HEAD_DIM=head_dim,
        PADDED_DIM=padded_dim,
        BLOCK_SIZE=block_size,
        TILE=tile,
        SPLITS=splits,
        STAGES=STAGES,
        WINDOW=window or 0,
        SOFTCAP=softcap or 0.0,
        KIND=kind_of(k_cache),
        scales=scales,
        num_warps=4,
    )
    if splits > 1:
        combine_kernel[(q_heads, batch)](
            heads(out),
            partial_out,
            partial_log_sum,
            seq_lens,
            sinks,
            HEAD_DIM=head_dim,
            PADDED_DIM=padded_dim,
            TILE=tile,
            SPLITS=splits,
            WINDOW=window or 0,
            num_warps=4,
        )
    return out


def _splits(pairs: int, tiles: int, device: torch.device) -> int:
    """Parts of a sequence, a power of two: enough to fill the GPU with `pairs` of (sequence, KV head)."""
    wanted = gpu(device).processors * PROGRAMS_PER_PROCESSOR // pairs
    most = max(1, min(wanted, tiles, MOST_SPLITS))
    return 1 << (most.bit_length() - 1)
