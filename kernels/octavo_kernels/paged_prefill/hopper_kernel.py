"""The kernel of paged_prefill for Hopper, in Gluon; `hopper` says how it is made, and launches it."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from octavo_kernels.eight_bits_kernels import PLAIN as STORED_PLAIN
from octavo_kernels.paged_prefill.hopper_attend import attend_run
from octavo_kernels.paged_prefill.hopper_tile import tile_of
from octavo_kernels.paged_prefill.hopper_widen import in_float16, widen_all

PLAIN = gl.constexpr(STORED_PLAIN)
FIRST, SECOND = gl.constexpr(0), gl.constexpr(1)  # the halves of a tile's queries


@gluon.jit
def copy_run(cache, table, run, last, column, ready, target, stage, BLOCK_SIZE: gl.constexpr):
    """Has a run of 128 keys or values of one head copied, from `column` of the cache [slots, KV heads * 128] on, into
    stage `stage` of target: of 16 bits as two halves [2 * STAGES, 128, 64], of 8 bits [STAGES, 128, 128]; `ready` is
    told of it. table: points to the sequence's blocks, int32. Blocks past its last one are that one again."""
    PARTS: gl.constexpr = 128 // target.shape[2]
    mbarrier.expect(ready, 128 * 128 * target.dtype.primitive_bitwidth // 8)
    for part in gl.static_range(128 // BLOCK_SIZE):
        row = gl.load(table + gl.minimum(run * (128 // BLOCK_SIZE) + part, last)) * BLOCK_SIZE
        for half in gl.static_range(PARTS):
            into = target.index(PARTS * stage + half).slice(part * BLOCK_SIZE, BLOCK_SIZE, dim=0)
            tma.async_copy_global_to_shared(cache, [row, column + half * 64], ready, into)


@gluon.jit
def copy_all(
    sources,
    work,
    queries,
    keys,
    values,
    HEADS: gl.constexpr,
    GROUP: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
):
    """The copying warp, for one program of `prefill_kernel`, whose arguments it takes. It runs ahead into the next tile
    while the others end theirs.

    queries, keys, values: what is copied to, and its barriers, ready when it is copied, free when all who read it have
    done so. Queries [4, 64, 64], the two halves of the head for the tile's first 64, then for its last; keys and
    values: see `copy_run`, with as many barriers as stages."""
    q, k_cache, v_cache, block_tables, stride_table = sources
    tiles, count, turns, query_start, seq_lens = work
    q_shared, q_ready, q_free = queries
    k_shared, k_ready, k_free = keys
    v_shared, v_ready, v_free = values
    STAGES: gl.constexpr = k_ready.shape[0]
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
def compute(
    HALF: gl.constexpr,
    results,
    work,
    factors,
    queries,
    keys,
    values,
    HEADS: gl.constexpr,
    GROUP: gl.constexpr,
    STAGES: gl.constexpr,
    KIND: gl.constexpr,
):
    """A computing warpgroup, for one program of `prefill_kernel`, whose arguments it takes: queries 64 * HALF to
    64 * HALF + 63 of each tile. queries, keys, values: see `copy_all`, all of 16 bits."""
    out, stride_out = results
    tiles, count, turns, query_start, seq_lens = work
    scale_log2, scales = factors
    q_shared, q_ready, q_free = queries
    k_shared, k_ready, k_free = keys
    v_shared, v_ready, v_free = values
    dtype: gl.constexpr = k_shared.dtype
    product: gl.constexpr = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, 128, 16])
    operand: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=product, k_width=2)
    swizzled: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    stored: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])
    query_rows = q_shared._reinterpret(q_shared.dtype, [2, 64, 128], swizzled).index(HALF)
    k_shared = k_shared._reinterpret(dtype, [STAGES, 128, 128], swizzled)
    v_shared = v_shared._reinterpret(dtype, [STAGES, 128, 128], swizzled)
    runs_before = 0
    tiles_before = 0
    for turn in range(turns):
        head, _, first, start, rows, length, runs = tile_of(turn, tiles, count, query_start, seq_lens, HEADS)
        if runs > 0:
            first_row = first + HALF * 64
            context = length - rows
            score_scale, value_scale = scale_log2, 1.0
            if KIND != PLAIN:
                kv_head = head // GROUP
                score_scale *= gl.load(scales + kv_head)
                value_scale = gl.load(scales + HEADS // GROUP + kv_head)
            position = context + first_row + gl.arange(0, 64, layout=gl.SliceLayout(1, product))
            # Runs that every query of this half sees whole.
            unmasked = gl.minimum((context + first_row + 1) // 128, runs - 1)
            # The first run, at the diagonal: there is nothing yet to overlap it with.
            stage = runs_before % STAGES
            mbarrier.wait(q_ready, tiles_before & 1)
            query = query_rows
            if KIND != PLAIN:
                # From registers, since the widened keys and values keep the shared memory busy.
                query = in_float16(query_rows.load(operand))
            mbarrier.wait(k_ready.index(stage), (runs_before // STAGES) & 1)
            nothing = gl.zeros([64, 128], gl.float32, layout=product)
            scores_token = warpgroup_mma(
                query, k_shared.index(stage).permute((1, 0)), nothing, use_acc=False, is_async=True
            )
            scores = warpgroup_mma_wait(0, deps=[scores_token])
            mbarrier.arrive(k_free.index(stage), count=1)
            key = (runs - 1) * 128 + gl.arange(0, 128, layout=gl.SliceLayout(0, product))
            scores = gl.where(key[None, :] <= position[:, None], scores, -1.0e30)
            row_max = gl.max(scores, 1)
            exponentials = gl.exp2(scores * score_scale - (row_max * score_scale)[:, None])
            row_sum = gl.sum(exponentials, 1)
            weights = gl.convert_layout(exponentials.to(dtype), operand)
            weighted = gl.zeros([64, 128], gl.float32, layout=product)
            for step in range(1, runs - unmasked):
                weighted, weights, row_max, row_sum = attend_run(
                    runs_before + step,
                    query,
                    (k_shared, k_ready, k_free),
                    (v_shared, v_ready, v_free),
                    weighted,
                    weights,
                    row_max,
                    row_sum,
                    score_scale,
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
                    (k_shared, k_ready, k_free),
                    (v_shared, v_ready, v_free),
                    weighted,
                    weights,
                    row_max,
                    row_sum,
                    score_scale,
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
            weighted_token = warpgroup_mma(weights, v_shared.index(stage), weighted, is_async=True)
            weighted, weights = warpgroup_mma_wait(0, deps=[weighted_token, weights])
            mbarrier.arrive(v_free.index(stage), count=1)
            attended = weighted / row_sum[:, None]
            if KIND != PLAIN:
                attended *= value_scale
            # Stores of 16 bytes: the products' own layout has 4.
            attended = gl.convert_layout(attended.to(q_shared.dtype), stored)
            row = first_row + gl.arange(0, 64, layout=gl.SliceLayout(1, stored))
            dim = gl.arange(0, 128, layout=gl.SliceLayout(0, stored))
            pointers = out + (start + row)[:, None].to(gl.int64) * stride_out + head * 128 + dim[None, :]
            gl.store(pointers, attended, mask=(row < rows)[:, None])
            runs_before += runs
            tiles_before += 1


@gluon.jit
def barriers(STAGES: gl.constexpr, READERS: gl.constexpr):
    """(ready, free), both [STAGES, 1]: told when a stage is filled, and when its READERS have read it."""
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(free.index(stage), count=READERS)
    return ready, free


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
    scales,
    HEADS: gl.constexpr,
    GROUP: gl.constexpr,
    BLOCK_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
    NARROW_STAGES: gl.constexpr,
    KIND: gl.constexpr,
    COMPUTE_REGISTERS: gl.constexpr,
    COPY_REGISTERS: gl.constexpr,
    WIDEN_REGISTERS: gl.constexpr,
):
    """Causal attention of tiles of 128 queries of one head. Grid: (programs,), each of which takes `turns` tiles; three
    warp partitions: two warpgroups that compute and a warp that copies; and of a cache of 8 bits a fourth, a warpgroup
    that widens what was copied.

    q: descriptor of [tokens, HEADS * 128], read 64 rows and 64 columns at a time; k_cache, v_cache: descriptors of
    [slots, HEADS / GROUP * 128], read BLOCK_SIZE rows and 64 columns at a time; out: points to [tokens, HEADS, 128],
    contiguous but for stride_out, of its tokens; all of one 16-bit float type, or the caches bytes of a KIND, read 128
    columns at a time, with scales: [2, HEADS / GROUP] float32. block_tables: [batch, width] int32; tiles: [count, 2]
    int32, see `HopperPrefillPlan`; query_start: [batch + 1] int32; seq_lens: [batch] int32. scale_log2: the scores'
    scale * LOG2_E. STAGES, NARROW_STAGES: runs of keys, and of values, in shared memory, of 16 bits and of 8.
    COMPUTE_REGISTERS, COPY_REGISTERS, WIDEN_REGISTERS: of a thread in each partition."""
    swizzled: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=16, rank=2)
    dtype: gl.constexpr = q.dtype if KIND == PLAIN else gl.float16
    q_shared = gl.allocate_shared_memory(q.dtype, [4, 64, 64], swizzled)
    k_shared = gl.allocate_shared_memory(dtype, [2 * STAGES, 128, 64], swizzled)
    v_shared = gl.allocate_shared_memory(dtype, [2 * STAGES, 128, 64], swizzled)
    q_ready, q_free = barriers(1, 2)
    k_ready, k_free = barriers(STAGES, 2)
    v_ready, v_free = barriers(STAGES, 2)
    sources = (q, k_cache, v_cache, block_tables, stride_table)
    work = (tiles, count, turns, query_start, seq_lens)
    results = (out, stride_out)
    factors = (scale_log2, scales)
    queries = (q_shared, q_ready.index(0), q_free.index(0))
    keys = (k_shared, k_ready, k_free)
    values = (v_shared, v_ready, v_free)
    if KIND == PLAIN:
        fence_async_shared()
        gl.warp_specialize(
            [
                (compute, (FIRST, results, work, factors, queries, keys, values, HEADS, GROUP, STAGES, KIND)),
                (compute, (SECOND, results, work, factors, queries, keys, values, HEADS, GROUP, STAGES, KIND)),
                (copy_all, (sources, work, queries, keys, values, HEADS, GROUP, BLOCK_SIZE)),
            ],
            [4, 1],
            [COMPUTE_REGISTERS, COPY_REGISTERS],
        )
    else:
        k_bytes = gl.allocate_shared_memory(k_cache.dtype, [NARROW_STAGES, 128, 128], k_cache.layout)
        v_bytes = gl.allocate_shared_memory(v_cache.dtype, [NARROW_STAGES, 128, 128], v_cache.layout)
        k_copied, k_taken = barriers(NARROW_STAGES, 1)
        v_copied, v_taken = barriers(NARROW_STAGES, 1)
        fence_async_shared()
        narrow_keys = (k_bytes, k_copied, k_taken)
        narrow_values = (v_bytes, v_copied, v_taken)
        gl.warp_specialize(
            [
                (compute, (FIRST, results, work, factors, queries, keys, values, HEADS, GROUP, STAGES, KIND)),
                (compute, (SECOND, results, work, factors, queries, keys, values, HEADS, GROUP, STAGES, KIND)),
                (widen_all, (work, narrow_keys, narrow_values, keys, values, HEADS, STAGES, KIND)),
                (copy_all, (sources, work, queries, narrow_keys, narrow_values, HEADS, GROUP, BLOCK_SIZE)),
            ],
            [4, 4, 1],
            [COMPUTE_REGISTERS, WIDEN_REGISTERS, COPY_REGISTERS],
        )
