"""paged_prefill for Hopper, in Gluon: warp-specialised attention in the manner of FlashAttention-3 (Shah et al., 2024),
for heads of 128 in 16 bits.

A tile is 128 queries of one head. A program is two warpgroups that compute, with 64 queries each, and a warp that has
the keys and values copied into shared memory, by the tensor memory accelerator, block of the cache by block; they meet
at barriers. Within a warpgroup the scores of one run of 128 keys are multiplied while the values of the run before are
added. As many programs as the GPU has processors take the tiles in turns, the heaviest first.

Keys are stored as two halves of 64 columns: 64 numbers of 16 bits are the 128 bytes that the shared memory's swizzle
spans, so a block of any multiple of 8 rows can land in the middle of a run, and both halves together are what the
matrix units read as one run of 128 columns.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from octavo_kernels.gpu import capability, gpu
from octavo_kernels.online_softmax import LOG2_E

ROWS = 128  # of queries in a tile, and of keys in a run
HEAD_DIM = 128
FIRST, SECOND = gl.constexpr(0), gl.constexpr(1)
STAGES = 2  # runs of keys, and of values, in shared memory
COMPUTE_REGISTERS, COPY_REGISTERS = 240, 24
REGISTERS = 168  # on the average of the 12 warps
# Tiles that are mostly padding are better computed by the form that packs a group's heads into one tile.
LEAST_FILLED = 0.75
# A launch describes three tensors to the accelerator anew, which takes the host longer than a shorter step can hide.
LEAST_QUERIES = 2048


@dataclass(frozen=True)
class HopperPrefillPlan:
    """What a step's layers share. tiles: [tiles, 2] int32, sequence and place among its tiles, the heaviest first."""

    tiles: Tensor


@gluon.jit
def tile_of(turn, tiles, count, query_start, seq_lens, HEADS: gl.constexpr):
    """The tile that a program takes in its turn: head, sequence, first query within the sequence, the sequence's first
    query, its queries, its length, and runs of keys: 0 where there is no tile. Every second turn goes backwards over
    the programs, so that their loads even out; a tile's heads lie side by side, since they share keys."""
    programs = gl.num_programs(0)
    place = gl.program_id(0)
    if turn % 2 == 1:
        place = programs - 1 - place
    index = turn * programs + place
    there = index < count * HEADS
    tile = tiles + gl.minimum(index // HEADS, count - 1) * 2
    sequence = gl.load(tile)
    first = gl.load(tile + 1) * 128
    start = gl.load(query_start + sequence)
    queries = gl.load(query_start + sequence + 1) - start
    length = gl.load(seq_lens + sequence)
    runs = (gl.minimum(length, length - queries + first + 128) + 127) // 128
    return index % HEADS, sequence, first, start, queries, length, gl.where(there, runs, 0)


@gluon.jit
def copy_run(cache, table, run, last, column, ready, target, stage, BLOCK_SIZE: gl.constexpr):
    """Has a run of keys or values copied. Blocks past the sequence's last one are that one again."""
    mbarrier.expect(ready, 128 * 128 * 2)
    for part in gl.static_range(128 // BLOCK_SIZE):
        row = gl.load(table + gl.minimum(run * (128 // BLOCK_SIZE) + part, last)) * BLOCK_SIZE
        for half in gl.static_range(2):
            into = target.index(2 * stage + half).slice(part * BLOCK_SIZE, BLOCK_SIZE, dim=0)
            tma.async_copy_global_to_shared(cache, [row, column + half * 64], ready, into)


@gluon.jit
def copy_all(
    q,
    k_cache,
    v_cache,
    block_tables,
    stride_table,
    tiles,
    count,
    turns,
    query_start,
    seq_lens,
    q_shared,
    k_shared,
    v_shared,
    q_ready,
    q_free,
    k_ready,
    k_free,
    v_ready,
    v_free,
    HEADS: gl.constexpr,
    GROUP: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
):
    """The copying warp. It runs ahead into the next tile while the others end theirs."""
    runs_before = 0
    tiles_before = 0
    for turn in range(turns):
        head, sequence, first, start, _, length, runs = tile_of(turn, tiles, count, query_start, seq_lens, HEADS)
        if runs > 0:
            column = head // GROUP * 128
            table = block_tables + sequence.to(gl.int64) * stride_table
            last = (length - 1) // BLOCK_SIZE
            mbarrier.wait(q_free, (tiles_before & 1) ^ 1)
            mbarrier.expect(q_ready, 128 * 128 * 2)
            for part in gl.static_range(4):
                row = start + first + (part // 2) * 64
                tma.async_copy_global_to_shared(q, [row, head * 128 + (part % 2) * 64], q_ready, q_shared.index(part))
            for step in range(runs + 1):
                if step < runs:
                    index = runs_before + step
                    stage = index % STAGES
                    mbarrier.wait(k_free.index(stage), ((index // STAGES) & 1) ^ 1)
                    copy_run(
                        k_cache, table, runs - 1 - step, last, column, k_ready.index(stage), k_shared, stage, BLOCK_SIZE
                    )
                if step > 0:
                    index = runs_before + step - 1
                    stage = index % STAGES
                    mbarrier.wait(v_free.index(stage), ((index // STAGES) & 1) ^ 1)
                    copy_run(
                        v_cache, table, runs - step, last, column, v_ready.index(stage), v_shared, stage, BLOCK_SIZE
                    )
            runs_before += runs
            tiles_before += 1


@gluon.jit
def attend_run(
    index,
    query,
    keys,
    values,
    k_ready,
    k_free,
    v_ready,
    v_free,
    weighted,
    weights,
    row_max,
    row_sum,
    scale_log2,
    position,
    run,
    MASKED: gl.constexpr,
    STAGES: gl.constexpr,
    product: gl.constexpr,
    operand: gl.constexpr,
):
    """Multiplies the scores of a run while the values of the one before it are added, whose `weights` are given."""
    stage = index % STAGES
    before = index - 1
    stage_before = before % STAGES
    mbarrier.wait(k_ready.index(stage), (index // STAGES) & 1)
    nothing = gl.zeros([64, 128], gl.float32, layout=product)
    scores_token = warpgroup_mma(query, keys.index(stage).permute((1, 0)), nothing, use_acc=False, is_async=True)
    mbarrier.wait(v_ready.index(stage_before), (before // STAGES) & 1)
    weighted_token = warpgroup_mma(weights, values.index(stage_before), weighted, is_async=True)
    scores = warpgroup_mma_wait(1, deps=[scores_token])
    mbarrier.arrive(k_free.index(stage), count=1)
    if MASKED:
        key = run * 128 + gl.arange(0, 128, layout=gl.SliceLayout(0, product))
        scores = gl.where(key[None, :] <= position[:, None], scores, -1.0e30)
    new_max = gl.maximum(row_max, gl.max(scores, 1))
    exponentials = gl.exp2(scores * scale_log2 - (new_max * scale_log2)[:, None])
    correction = gl.exp2((row_max - new_max) * scale_log2)
    row_sum = row_sum * correction + gl.sum(exponentials, 1)
    new_weights = gl.convert_layout(exponentials.to(weights.dtype), operand)
    weighted, weights = warpgroup_mma_wait(0, deps=[weighted_token, weights])
    mbarrier.arrive(v_free.index(stage_before), count=1)
    return weighted * correction[:, None], new_weights, new_max, row_sum


@gluon.jit
def compute(
    HALF: gl.constexpr,
    out,
    stride_out,
    tiles,
    count,
    turns,
    query_start,
    seq_lens,
    scale_log2,
    q_shared,
    k_shared,
    v_shared,
    q_ready,
    q_free,
    k_ready,
    k_free,
    v_ready,
    v_free,
    HEADS: gl.constexpr,
    STAGES: gl.constexpr,
):
    """A computing warpgroup: queries 64 * HALF to 64 * HALF + 63 of each tile."""
    dtype: gl.constexpr = q_shared.dtype
    product: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, 128, 16])
    operand: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=product, k_width=2)
    swizzled: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    stored: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])
    query = q_shared._reinterpret(dtype, [2, 64, 128], swizzled).index(HALF)
    keys = k_shared._reinterpret(dtype, [STAGES, 128, 128], swizzled)
    values = v_shared._reinterpret(dtype, [STAGES, 128, 128], swizzled)
    runs_before = 0
    tiles_before = 0
    for turn in range(turns):
        head, _, first, start, queries, length, runs = tile_of(turn, tiles, count, query_start, seq_lens, HEADS)
        if runs > 0:
            first_row = first + HALF * 64
            context = length - queries
            position = context + first_row + gl.arange(0, 64, layout=gl.SliceLayout(1, product))
            # Runs that every query of this half sees whole.
            unmasked = gl.minimum((context + first_row + 1) // 128, runs - 1)
            # The first run, at the diagonal: there is nothing yet to overlap it with.
            stage = runs_before % STAGES
            mbarrier.wait(q_ready, tiles_before & 1)
            mbarrier.wait(k_ready.index(stage), (runs_before // STAGES) & 1)
            nothing = gl.zeros([64, 128], gl.float32, layout=product)
            scores_token = warpgroup_mma(
                query, keys.index(stage).permute((1, 0)), nothing, use_acc=False, is_async=True
            )
            scores = warpgroup_mma_wait(0, deps=[scores_token])
            mbarrier.arrive(k_free.index(stage), count=1)
            key = (runs - 1) * 128 + gl.arange(0, 128, layout=gl.SliceLayout(0, product))
            scores = gl.where(key[None, :] <= position[:, None], scores, -1.0e30)
            row_max = gl.max(scores, 1)
            exponentials = gl.exp2(scores * scale_log2 - (row_max * scale_log2)[:, None])
            row_sum = gl.sum(exponentials, 1)
            weights = gl.convert_layout(exponentials.to(dtype), operand)
            weighted = gl.zeros([64, 128], gl.float32, layout=product)
            for step in range(1, runs - unmasked):
                weighted, weights, row_max, row_sum = attend_run(
                    runs_before + step,
                    query,
                    keys,
                    values,
                    k_ready,
                    k_free,
                    v_ready,
                    v_free,
                    weighted,
                    weights,
                    row_max,
                    row_sum,
                    scale_log2,
                    position,
                    runs - 1 - step,
                    True,
                    STAGES,
                    product,
                    operand,
                )
            for step in range(runs - unmasked, runs):
                weighted, weights, row_max, row_sum = attend_run(
                    runs_before + step,
                    query,
                    keys,
                    values,
                    k_ready,
                    k_free,
                    v_ready,
                    v_free,
                    weighted,
                    weights,
                    row_max,
                    row_sum,
                    scale_log2,
                    position,
                    runs - 1 - step,
                    False,
                    STAGES,
                    product,
                    operand,
                )
            mbarrier.arrive(q_free, count=1)
            final = runs_before + runs - 1
            stage = final % STAGES
            mbarrier.wait(v_ready.index(stage), (final // STAGES) & 1)
            weighted_token = warpgroup_mma(weights, values.index(stage), weighted, is_async=True)
            weighted, weights = warpgroup_mma_wait(0, deps=[weighted_token, weights])
            mbarrier.arrive(v_free.index(stage), count=1)
            # Stores of 16 bytes: the products' own layout has 4.
            attended = gl.convert_layout((weighted / row_sum[:, None]).to(dtype), stored)
            row = first_row + gl.arange(0, 64, layout=gl.SliceLayout(1, stored))
            dim = gl.arange(0, 128, layout=gl.SliceLayout(0, stored))
            pointers = out + (start + row)[:, None].to(gl.int64) * stride_out + head * 128 + dim[None, :]
            gl.store(pointers, attended, mask=(row < queries)[:, None])
            runs_before += runs
            tiles_before += 1


@gluon.jit(do_not_specialize=["stride_table", "count", "turns"])
def prefill_kernel(
    q,
    k_cache,
    v_cache,
    out,
    stride_out,
    block_tables,
    stride_table,
    tiles,
    count,
    turns,
    query_start,
    seq_lens,
    scale_log2,
    HEADS: gl.constexpr,
    GROUP: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
    COMPUTE_REGISTERS: gl.constexpr,
    COPY_REGISTERS: gl.constexpr,
):
    swizzled: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    dtype: gl.constexpr = q.dtype
    q_shared = gl.allocate_shared_memory(dtype, [4, 64, 64], swizzled)
    k_shared = gl.allocate_shared_memory(dtype, [2 * STAGES, 128, 64], swizzled)
    v_shared = gl.allocate_shared_memory(dtype, [2 * STAGES, 128, 64], swizzled)
    barrier: gl.constexpr = mbarrier.MBarrierLayout()
    q_ready = gl.allocate_shared_memory(gl.int64, [1], barrier)
    q_free = gl.allocate_shared_memory(gl.int64, [1], barrier)
    k_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], barrier)
    k_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], barrier)
    v_ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], barrier)
    v_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], barrier)
    mbarrier.init(q_ready, count=1)
    mbarrier.init(q_free, count=2)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_ready.index(stage), count=1)
        mbarrier.init(v_ready.index(stage), count=1)
        mbarrier.init(k_free.index(stage), count=2)
        mbarrier.init(v_free.index(stage), count=2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (
                compute,
                (
                    FIRST,
                    out,
                    stride_out,
                    tiles,
                    count,
                    turns,
                    query_start,
                    seq_lens,
                    scale_log2,
                    q_shared,
                    k_shared,
                    v_shared,
                    q_ready,
                    q_free,
                    k_ready,
                    k_free,
                    v_ready,
                    v_free,
                    HEADS,
                    STAGES,
                ),
            ),
            (
                compute,
                (
                    SECOND,
                    out,
                    stride_out,
                    tiles,
                    count,
                    turns,
                    query_start,
                    seq_lens,
                    scale_log2,
                    q_shared,
                    k_shared,
                    v_shared,
                    q_ready,
                    q_free,
                    k_ready,
                    k_free,
                    v_ready,
                    v_free,
                    HEADS,
                    STAGES,
                ),
            ),
            (
                copy_all,
                (
                    q,
                    k_cache,
                    v_cache,
                    block_tables,
                    stride_table,
                    tiles,
                    count,
                    turns,
                    query_start,
                    seq_lens,
                    q_shared,
                    k_shared,
                    v_shared,
                    q_ready,
                    q_free,
                    k_ready,
                    k_free,
                    v_ready,
                    v_free,
                    HEADS,
                    GROUP,
                    BLOCK_SIZE,
                    STAGES,
                ),
            ),
        ],
        [4, 1],
        [COMPUTE_REGISTERS, COPY_REGISTERS],
    )


def fits(q_heads: int, k_cache: Tensor) -> bool:
    """Whether this form can be used on the device and with the cache's shape, for queries in the cache's type."""
    _, block_size, kv_heads, head_dim = k_cache.shape
    fitting = head_dim == HEAD_DIM and k_cache.itemsize == 2 and q_heads % kv_heads == 0
    whole = block_size % 8 == 0 and ROWS % block_size == 0 and k_cache.is_contiguous()
    return fitting and whole and (not k_cache.is_cuda or capability(k_cache.device) == (9, 0))


def plan(lengths: npt.NDArray[np.int64], device: torch.device) -> HopperPrefillPlan | None:
    """The tiles of sequences with lengths [batch, 2]: queries and all tokens; None where the other form is the better
    one: for few queries, or tiles that would be padding too much."""
    queries, totals = lengths[:, 0], lengths[:, 1]
    counts = -(-queries // ROWS)
    if queries.sum() < max(LEAST_QUERIES, LEAST_FILLED * ROWS * counts.sum()):
        return None
    sequence = np.repeat(np.arange(len(lengths)), counts)
    place = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    ends = np.minimum(totals[sequence], (totals - queries)[sequence] + (place + 1) * ROWS)
    order = np.argsort(-ends, kind="stable")
    tiles = torch.from_numpy(np.stack([sequence, place], axis=1)[order].astype(np.int32))
    return HopperPrefillPlan(tiles.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tiles)


def paged_prefill(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start: Tensor,
    scale: float,
    plan_of_step: HopperPrefillPlan,
    out: Tensor | None = None,
) -> Tensor:
    """See `octavo_kernels.paged_prefill`. Slots of the sequences' blocks behind their last token must hold finite
    numbers: they are multiplied by 0."""
    _, q_heads, head_dim = q.shape
    block_size, kv_heads = k_cache.shape[1:3]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    count = len(plan_of_step.tiles)
    programs = min(gpu(q.device).processors, count * q_heads)
    element = gl.bfloat16 if q.dtype == torch.bfloat16 else gl.float16
    layout = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=element.primitive_bitwidth, rank=2)

    def rows(tensor: Tensor, count: int, heads: int, at_once: int) -> TensorDescriptor:
        """`count` rows of the heads of a token, read `at_once` rows and half a head at a time."""
        return TensorDescriptor(tensor, [count, heads * head_dim], [tensor.stride(-3), 1], [at_once, 64], layout)

    prefill_kernel[(programs,)](
        rows(q, len(q), q_heads, 64),
        rows(k_cache, len(k_cache) * block_size, kv_heads, block_size),
        rows(v_cache, len(v_cache) * block_size, kv_heads, block_size),
        out,
        out.stride(0),
        block_tables,
        block_tables.stride(0),
        plan_of_step.tiles,
        count,
        triton.cdiv(count * q_heads, programs),
        query_start,
        seq_lens,
        scale * LOG2_E,
        HEADS=q_heads,
        GROUP=q_heads // kv_heads,
        BLOCK_SIZE=block_size,
        STAGES=STAGES,
        COMPUTE_REGISTERS=COMPUTE_REGISTERS,
        COPY_REGISTERS=COPY_REGISTERS,
        num_warps=4,
        maxnreg=REGISTERS,
    )
    return out
