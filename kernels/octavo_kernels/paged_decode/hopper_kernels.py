"""The kernels of paged_decode for Hopper; `hopper` says how they share the work, and launches them."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl

from octavo_kernels.dependent_launch import wait_for_last
from octavo_kernels.online_softmax import HIDDEN

ROWS = tl.constexpr(16)  # query heads of a KV head; the least that tl.dot takes
HEADER = tl.constexpr(4)  # ints before the workers' records: units in all, workers in use
RECORD = tl.constexpr(8)  # ints a worker: sequence, KV head, first tile, units, length of the sequence


@triton.jit(do_not_specialize=["batch"])
def plan_kernel(seq_lens, records, batch, workers, KV_HEADS: tl.constexpr, TILE: tl.constexpr, PADDED: tl.constexpr):
    """Where each worker begins: worker w of W at unit floor(w * units / W). Grid: (workers,).

    seq_lens: [batch] int32. records: int32, written: HEADER numbers, RECORD for each worker, and behind them, [batch],
    the units before each sequence. TILE: positions of a unit. PADDED: batch, up to a power of two."""
    worker = tl.program_id(0)
    sequence = tl.arange(0, PADDED)
    lengths = tl.load(seq_lens + sequence, mask=sequence < batch, other=0)
    units = tl.cdiv(lengths, TILE) * KV_HEADS
    through = tl.cumsum(units, 0)
    total = tl.sum(units, 0)
    used = tl.minimum(workers, total)
    first = ((worker.to(tl.int64) * total) // tl.maximum(used, 1)).to(tl.int32)
    end = (((worker + 1).to(tl.int64) * total) // tl.maximum(used, 1)).to(tl.int32)
    begins_in = tl.minimum(tl.sum((through <= first).to(tl.int32), 0), batch - 1)
    here = sequence == begins_in
    tiles = tl.maximum(tl.sum(tl.where(here, units, 0), 0) // KV_HEADS, 1)
    offset = first - tl.sum(tl.where(sequence < begins_in, units, 0), 0)
    record = records + HEADER + worker * RECORD
    tl.store(record, begins_in)
    tl.store(record + 1, offset // tiles)
    tl.store(record + 2, offset % tiles)
    tl.store(record + 3, tl.where(worker < used, end - first, 0))
    tl.store(record + 4, tl.sum(tl.where(here, lengths, 0), 0))
    if worker == 0:
        tl.store(records, total)
        tl.store(records + 1, used)
        tl.store(records + HEADER + workers * RECORD + sequence, through - units, mask=sequence < batch)


@triton.jit
def parts_of(first_unit, tiles, total, used):
    """The first and the last worker that hold parts of the pair with these units, and the first one's slot, int32.
    first_unit: int64; total: units in all; used: workers in use.

    Worker w has two slots: 2w for the pair that it begins in, 2w + 1 for a later one that it does not finish."""
    first = (((first_unit + 1) * used - 1) // total).to(tl.int32)
    last = (((first_unit + tiles) * used - 1) // total).to(tl.int32)
    slot = 2 * first + ((first.to(tl.int64) * total) // used != first_unit).to(tl.int32)
    return first, last, slot


@triton.jit
def add_parts(
    partial_out,
    partial_stats,
    first,
    last,
    first_slot,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """[GROUP_ROWS, PADDED_DIM] float32: attention from all parts of a pair, AT_ONCE of them at a time; for one program
    of any grid. partial_out, partial_stats: as for `decode_kernel`; first, last, first_slot: of `parts_of`."""
    row = tl.arange(0, GROUP_ROWS)
    dim = tl.arange(0, PADDED_DIM)
    part = tl.arange(0, AT_ONCE)
    in_group = row < GROUP
    peak = tl.full([GROUP_ROWS], HIDDEN, tl.float32)
    total = tl.zeros([GROUP_ROWS], tl.float32)
    weighted = tl.zeros([GROUP_ROWS, PADDED_DIM], tl.float32)
    for start in range(first, last + 1, AT_ONCE):
        worker = start + part
        slot = tl.where(worker == first, first_slot, 2 * worker)
        there = (worker <= last)[:, None] & in_group[None, :]
        stats = partial_stats + slot[:, None] * (2 * GROUP) + row[None, :]
        # Other workers wrote them: past the first cache, which may hold what was there before.
        part_max = tl.load(stats, mask=there, other=HIDDEN, cache_modifier=".cg")
        part_sum = tl.load(stats + GROUP, mask=there, other=0.0, cache_modifier=".cg")
        values = tl.load(
            partial_out + (slot[:, None, None] * GROUP + row[None, :, None]) * HEAD_DIM + dim[None, None, :],
            mask=there[:, :, None] & (dim < HEAD_DIM)[None, None, :],
            other=0.0,
            cache_modifier=".cg",
        )
        new_peak = tl.maximum(peak, tl.max(part_max, 0))
        weight = tl.exp2(part_max - new_peak[None, :])
        correction = tl.exp2(peak - new_peak)
        total = total * correction + tl.sum(weight * part_sum, 0)
        weighted = weighted * correction[:, None] + tl.sum(values * weight[:, :, None], 0)
        peak = new_peak
    return weighted / tl.where(in_group, total, 1.0)[:, None]


@triton.jit(do_not_specialize=["stride_table"])
def decode_kernel(
    out,
    q,
    cache,
    block_tables,
    stride_table,
    seq_lens,
    records,
    partial_out,
    partial_stats,
    arrived,
    scale_log2,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    FUSED: tl.constexpr,
    AT_ONCE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Attends with the query heads of one KV head after another to the units of one worker. Grid: (workers,).

    out, q: `Heads` [batch, KV_HEADS * GROUP, HEAD_DIM]; cache: `LayerCache` [blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM];
    all of one 16-bit float type. block_tables: [batch, width] int32; seq_lens: [batch] int32; records: of
    `plan_kernel`, with the same TILE. Of pairs that it shares with others it writes partial_out: [2 * workers, GROUP,
    HEAD_DIM] float32, the weighted values, and partial_stats: [2 * workers, 2, GROUP] float32, the greatest score in
    units of log2 and the sum; of the others, and if FUSED of those whose last part it is, out. arrived: [batch *
    KV_HEADS] int32, units that are done; if FUSED, 0 before and after. scale_log2: the scores' scale * LOG2_E.
    GROUP_ROWS, PADDED_DIM: GROUP, HEAD_DIM, up to a power of two."""
    wait_for_last(DEPENDENT)
    worker = tl.program_id(0)
    total = tl.load(records)
    used = tl.load(records + 1)
    record = records + HEADER + worker * RECORD
    sequence = tl.load(record)
    kv_head = tl.load(record + 1)
    tile = tl.load(record + 2)
    left = tl.load(record + 3)
    seq_len = tl.load(record + 4)
    start = ((worker.to(tl.int64) * total) // tl.maximum(used, 1)).to(tl.int32)
    unit = start
    row = tl.arange(0, ROWS)
    dim = tl.arange(0, PADDED_DIM)
    lane = tl.arange(0, TILE)
    in_group = row < GROUP
    in_head = dim < HEAD_DIM
    row_mask = in_group[:, None] & in_head[None, :]
    while left > 0:
        tiles = tl.cdiv(seq_len, TILE)
        count = tl.minimum(tiles - tile, left)
        head = kv_head * GROUP + row
        q_rows = sequence.to(tl.int64) * q.stride_token + head * q.stride_head
        query = tl.load(q.pointer + q_rows[:, None] + dim[None, :], mask=row_mask, other=0.0)
        row_max = tl.full([ROWS], HIDDEN, tl.float32)
        row_sum = tl.zeros([ROWS], tl.float32)
        weighted = tl.zeros([ROWS, PADDED_DIM], tl.float32)
        table = block_tables + sequence.to(tl.int64) * stride_table
        key_head = cache.k + kv_head * cache.stride_head
        value_head = cache.v + kv_head * cache.stride_head
        # Block ids are loaded one iteration ahead and carried: see online_softmax.attend.
        position = tile * TILE + lane
        block = tl.load(table + position // BLOCK_SIZE, mask=position < seq_len, other=0)
        for index in tl.range(tile, tile + count, num_stages=STAGES):
            position = index * TILE + lane
            offsets = block.to(tl.int64) * cache.stride_block + (position % BLOCK_SIZE) * cache.stride_slot
            seen = position < seq_len
            # Slots beyond the sequence may hold anything: their weight is 0, and 0 * NaN would be NaN.
            if PADDED_DIM != HEAD_DIM:
                key = tl.load(key_head + offsets[:, None] + dim[None, :], mask=in_head[None, :], other=0.0)
                value_mask = seen[:, None] & in_head[None, :]
            else:
                key = tl.load(key_head + offsets[:, None] + dim[None, :])
                value_mask = seen[:, None]
            value = tl.load(value_head + offsets[:, None] + dim[None, :], mask=value_mask, other=0.0)
            following = position + TILE
            block = tl.load(table + following // BLOCK_SIZE, mask=following < seq_len, other=0)
            scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale_log2
            scores = tl.where(seen[None, :], scores, HIDDEN)
            new_max = tl.maximum(row_max, tl.max(scores, 1))
            weights = tl.exp2(scores - new_max[:, None])
            correction = tl.exp2(row_max - new_max)
            row_sum = row_sum * correction + tl.sum(weights, 1)
            weighted = tl.dot(weights.to(value.dtype), value, weighted * correction[:, None], input_precision="ieee")
            row_max = new_max
        out_rows = sequence.to(tl.int64) * out.stride_token + head * out.stride_head
        out_pointers = out.pointer + out_rows[:, None] + dim[None, :]
        if count == tiles:
            tl.store(out_pointers, (weighted / row_sum[:, None]).to(out.pointer.dtype.element_ty), mask=row_mask)
        else:
            slot = 2 * worker + (unit != start).to(tl.int32)
            tl.store(partial_out + (slot * GROUP + row[:, None]) * HEAD_DIM + dim[None, :], weighted, mask=row_mask)
            tl.store(partial_stats + slot * (2 * GROUP) + row, row_max, mask=in_group)
            tl.store(partial_stats + slot * (2 * GROUP) + GROUP + row, row_sum, mask=in_group)
            if FUSED:
                tl.debug_barrier()  # every thread's stores come before the count
                pair = sequence * KV_HEADS + kv_head
                before = tl.atomic_add(arrived + pair, count, sem="acq_rel", scope="gpu")
                if before + count == tiles:
                    first, last, slot = parts_of((unit - tile).to(tl.int64), tiles, total, used)
                    attended = add_parts(
                        partial_out, partial_stats, first, last, slot, GROUP, GROUP_ROWS, HEAD_DIM, PADDED_DIM, AT_ONCE
                    )
                    own = tl.arange(0, GROUP_ROWS)
                    own_rows = sequence.to(tl.int64) * out.stride_token + (kv_head * GROUP + own) * out.stride_head
                    tl.store(
                        out.pointer + own_rows[:, None] + dim[None, :],
                        attended.to(out.pointer.dtype.element_ty),
                        mask=(own < GROUP)[:, None] & in_head[None, :],
                    )
                    tl.store(arrived + pair, 0)  # ready for the next layer
        unit += count
        left -= count
        tile = 0
        kv_head += 1
        if kv_head == KV_HEADS:
            kv_head = 0
            sequence += 1
            if left > 0:
                seq_len = tl.load(seq_lens + sequence)


@triton.jit(do_not_specialize=["workers"])
def combine_kernel(
    out,
    seq_lens,
    records,
    partial_out,
    partial_stats,
    workers,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    TILE: tl.constexpr,
    AT_ONCE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Adds up the parts of the pairs that several workers share. Grid: (query heads, batch): many small programs read
    the parts in one go.

    out: `Heads` [batch, heads, HEAD_DIM], 16 bits, is written. seq_lens: [batch] int32; the others as for
    `decode_kernel`; workers: of `plan_kernel`. AT_ONCE: parts in one iteration."""
    wait_for_last(DEPENDENT)
    head = tl.program_id(0)
    sequence = tl.program_id(1)
    kv_head = head // GROUP
    row = head % GROUP
    tiles = tl.cdiv(tl.load(seq_lens + sequence), TILE)
    if tiles == 0:
        return
    total = tl.load(records)
    used = tl.load(records + 1)
    before = tl.load(records + HEADER + workers * RECORD + sequence)
    first, last, first_slot = parts_of((before + kv_head * tiles).to(tl.int64), tiles, total, used)
    if last == first:
        return  # the worker stored the output itself
    dim = tl.arange(0, PADDED_DIM)
    part = tl.arange(0, AT_ONCE)
    in_head = dim < HEAD_DIM
    peak = HIDDEN + 0.0
    total_sum = 0.0
    weighted = tl.zeros([PADDED_DIM], tl.float32)
    for start in range(first, last + 1, AT_ONCE):
        worker = start + part
        there = worker <= last
        slot = tl.where(worker == first, first_slot, 2 * worker)
        stats = partial_stats + slot * (2 * GROUP) + row
        part_max = tl.load(stats, mask=there, other=HIDDEN, cache_modifier=".cg")
        part_sum = tl.load(stats + GROUP, mask=there, other=0.0, cache_modifier=".cg")
        values = tl.load(
            partial_out + (slot[:, None] * GROUP + row) * HEAD_DIM + dim[None, :],
            mask=there[:, None] & in_head[None, :],
            other=0.0,
            cache_modifier=".cg",
        )
        new_peak = tl.maximum(peak, tl.max(part_max, 0))
        weight = tl.exp2(part_max - new_peak)
        correction = tl.exp2(peak - new_peak)
        total_sum = total_sum * correction + tl.sum(weight * part_sum, 0)
        weighted = weighted * correction + tl.sum(values * weight[:, None], 0)
        peak = new_peak
    pointers = out.pointer + sequence.to(tl.int64) * out.stride_token + head * out.stride_head + dim
    tl.store(pointers, (weighted / total_sum).to(out.pointer.dtype.element_ty), mask=in_head)
