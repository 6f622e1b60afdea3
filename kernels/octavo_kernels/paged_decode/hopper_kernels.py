"""The kernels of paged_decode for Hopper; `hopper` says how they share the work, and launches them."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl

from octavo_kernels.dependent_launch import wait_for_last
from octavo_kernels.online_softmax import HIDDEN
from octavo_kernels.paged_decode.hopper_attend import (
    PLAIN,
    ROWS,
    in_order,
    load_query,
    nothing_weighted,
    scored,
    with_values,
)
from octavo_kernels.paged_decode.hopper_plan_kernels import (
    HEADER,
    RECORD,
    begin_of,
    own_tiles,
    parts_of,
    slots_of,
)


@triton.jit
def add_parts(
    partial_out,
    partial_stats,
    holders,
    first_row,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    PACKED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """[GROUP_ROWS, PADDED_DIM] float32: attention of GROUP rows from all their parts, AT_ONCE of them at a time; for
    one program of any grid. partial_out, partial_stats: as for `decode_kernel`; holders: of `parts_of`; first_row: of
    the PACKED ones."""
    first, leading, then, parts, first_slot = holders
    row = tl.arange(0, GROUP_ROWS)
    dim = tl.arange(0, PADDED_DIM)
    in_group = row < GROUP
    peak = tl.full([GROUP_ROWS], HIDDEN, tl.float32)
    total = tl.zeros([GROUP_ROWS], tl.float32)
    weighted = tl.zeros([GROUP_ROWS, PADDED_DIM], tl.float32)
    for start in range(0, parts, AT_ONCE):
        part = start + tl.arange(0, AT_ONCE)
        slot = slots_of(part, first, leading, then, first_slot)
        there = (part < parts)[:, None] & in_group[None, :]
        stats = partial_stats + slot[:, None] * (2 * PACKED) + first_row + row[None, :]
        # Other workers wrote them: past the first cache, which may hold what was there before.
        part_max = tl.load(stats, mask=there, other=HIDDEN, cache_modifier=".cg")
        part_sum = tl.load(stats + PACKED, mask=there, other=0.0, cache_modifier=".cg")
        values = tl.load(
            partial_out
            + (slot[:, None, None] * PACKED + first_row + row[None, :, None]) * HEAD_DIM
            + dim[None, None, :],
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


@triton.jit(do_not_specialize=["stride_table", "batch"])
def decode_kernel(
    out,
    q,
    cache,
    block_tables,
    stride_table,
    seq_lens,
    common,
    records,
    partial_out,
    partial_stats,
    arrived,
    batch,
    scale_log2,
    scales,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_ROWS: tl.constexpr,
    PACK: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
    FUSED: tl.constexpr,
    AT_ONCE: tl.constexpr,
    KIND: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Attends with the query heads of one pack and KV head after another to the units of one worker. Grid: (workers,).

    out, q: `Heads` [batch, KV_HEADS * GROUP, HEAD_DIM]; cache: `LayerCache` [blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM];
    all of one 16-bit float type, or the cache int16 words of two numbers of 8 bits of a KIND, see `widened_pairs`, with
    scales: [2, KV_HEADS] float32. block_tables: [batch, width] int32; seq_lens: [batch] int32; common: of
    `common_kernel`, records: of `plan_kernel`, with the same TILE. Of sequences that it shares with other workers it
    writes partial_out: [2 * workers, PACK * GROUP, HEAD_DIM] float32, the weighted values, and partial_stats: [2 *
    workers, 2, PACK * GROUP] float32, the greatest score in units of log2 and the sum; of the others, and if FUSED of
    those whose last part it is, out. arrived: [batch * KV_HEADS] int32, units that are done; if FUSED, 0 before and
    after. scale_log2: the scores' scale * LOG2_E. GROUP_ROWS, PADDED_DIM: GROUP, HEAD_DIM, up to a power of two."""
    wait_for_last(DEPENDENT)
    PACKED: tl.constexpr = PACK * GROUP
    worker = tl.program_id(0)
    quota = tl.load(records)
    extra = tl.load(records + 1)
    record = records + HEADER + worker * RECORD
    pack = tl.load(record)
    kv_head = tl.load(record + 1)
    stretch = tl.load(record + 2)  # 0: what the pack has in common; m + 1: what member m has of its own
    tile = tl.load(record + 3)
    left = tl.load(record + 4)
    pair_tile = tl.load(record + 5)  # of the pair's tiles, the worker's first
    shared = tl.load(record + 6)
    seq_len = tl.load(record + 7)
    start = begin_of(worker, quota, extra)
    pair_unit = start - pair_tile
    row = tl.arange(0, ROWS)
    dim = tl.arange(0, PADDED_DIM)
    lane = tl.arange(0, TILE)
    in_head = dim < HEAD_DIM
    NUMBERS: tl.constexpr = 1 if KIND == PLAIN else 2  # in a word of the cache
    word = tl.arange(0, PADDED_DIM // NUMBERS)
    in_words = word < HEAD_DIM // NUMBERS
    row_max = tl.full([ROWS], HIDDEN, tl.float32)
    row_sum = tl.zeros([ROWS], tl.float32)
    weighted = nothing_weighted(PADDED_DIM, KIND)
    done = tl.zeros([ROWS], tl.int32)  # tiles that each row has seen here of this pair
    row_sequence = pack * PACK + row // GROUP
    in_pack = (row < PACKED) & (row_sequence < batch)
    lengths = tl.load(seq_lens + row_sequence, mask=in_pack, other=0)
    while left > 0:
        turn = tl.maximum(stretch - 1, 0)
        sequence = pack * PACK + turn
        before = tl.where(stretch == 0, 0, shared)
        tiles = tl.where(stretch == 0, shared, tl.maximum(tl.cdiv(seq_len, TILE) - shared, 0))
        count = tl.minimum(tiles - tile, left)
        head = kv_head * GROUP + row % GROUP
        sees = in_pack & ((stretch == 0) | (row // GROUP == turn))
        table = block_tables + sequence.to(tl.int64) * stride_table
        key_head = cache.k + kv_head * cache.stride_head
        value_head = cache.v + kv_head * cache.stride_head
        score_scale = scale_log2
        if KIND != PLAIN:
            score_scale *= tl.load(scales + kv_head)
        # Block ids are loaded one iteration ahead and carried: see online_softmax.attend.
        position = (before + tile) * TILE + lane
        block = tl.load(table + position // BLOCK_SIZE, mask=position < seq_len, other=0)
        q_rows = row_sequence.to(tl.int64) * q.stride_token + head * q.stride_head
        query = load_query(q.pointer + q_rows, in_pack, HEAD_DIM, PADDED_DIM, KIND)
        for index in tl.range(before + tile, before + tile + count, num_stages=STAGES):
            position = index * TILE + lane
            offsets = block.to(tl.int64) * cache.stride_block + (position % BLOCK_SIZE) * cache.stride_slot
            seen = position < seq_len
            # Slots beyond the sequence may hold anything: their weight is 0, and 0 * NaN would be NaN.
            if PADDED_DIM != HEAD_DIM:
                key = tl.load(key_head + offsets[:, None] + word[None, :], mask=in_words[None, :], other=0)
                value_mask = seen[:, None] & in_words[None, :]
            else:
                key = tl.load(key_head + offsets[:, None] + word[None, :])
                value_mask = seen[:, None]
            value = tl.load(value_head + offsets[:, None] + word[None, :], mask=value_mask, other=0)
            following = position + TILE
            block = tl.load(table + following // BLOCK_SIZE, mask=following < seq_len, other=0)
            scores = scored(query, key, KIND, DEPENDENT) * score_scale
            scores = tl.where(seen[None, :], scores, HIDDEN)
            new_max = tl.where(sees, tl.maximum(row_max, tl.max(scores, 1)), row_max)
            weights = tl.where(sees[:, None], tl.exp2(scores - new_max[:, None]), 0.0)
            correction = tl.exp2(row_max - new_max)
            row_sum = row_sum * correction + tl.sum(weights, 1)
            weighted = with_values(weighted, correction, weights, value, KIND, DEPENDENT)
            row_max = new_max
        done += tl.where(sees, count, 0)
        left -= count
        tile = 0
        stretch += 1
        if (left == 0) | (stretch > PACK):
            own = tl.maximum(tl.cdiv(lengths, TILE) - shared, 0)
            needed = shared + own
            ended = in_order(weighted, KIND)
            if KIND != PLAIN:
                ended *= tl.load(scales + KV_HEADS + kv_head)
            is_part = in_pack & (done > 0) & (done < needed)
            out_rows = row_sequence.to(tl.int64) * out.stride_token + head * out.stride_head
            tl.store(
                out.pointer + out_rows[:, None] + dim[None, :],
                (ended / row_sum[:, None]).to(out.pointer.dtype.element_ty),
                mask=(in_pack & (done == needed))[:, None] & in_head[None, :],
            )
            slot = 2 * worker + (pair_unit > start).to(tl.int32)
            part = partial_out + (slot * PACKED + row[:, None]) * HEAD_DIM + dim[None, :]
            tl.store(part, ended, mask=is_part[:, None] & in_head[None, :])
            tl.store(partial_stats + slot * (2 * PACKED) + row, row_max, mask=is_part)
            tl.store(partial_stats + slot * (2 * PACKED) + PACKED + row, row_sum, mask=is_part)
            leads = row % GROUP == 0  # one row of each member
            if FUSED:
                tl.debug_barrier()  # every thread's stores come before the count
                counters = arrived + row_sequence * KV_HEADS + kv_head
                counted = tl.atomic_add(counters, done, mask=is_part & leads, sem="acq_rel", scope="gpu")
                is_last = is_part & leads & (counted + done == needed)
                tl.store(counters, 0, mask=is_last)  # ready for the next layer
                ending = tl.sum(tl.where(is_last, 1 << (row // GROUP), 0), 0)
                for member in range(PACK):
                    if (ending >> member) & 1:
                        own_before = tl.sum(tl.where(leads & (row < member * GROUP), own, 0), 0)
                        own_here = tl.sum(tl.where(row == member * GROUP, own, 0), 0)
                        attended = add_parts(
                            partial_out,
                            partial_stats,
                            parts_of(pair_unit, shared, own_before, own_here, quota, extra),
                            member * GROUP,
                            GROUP,
                            GROUP_ROWS,
                            PACKED,
                            HEAD_DIM,
                            PADDED_DIM,
                            AT_ONCE,
                        )
                        of_group = tl.arange(0, GROUP_ROWS)
                        ended_rows = (pack * PACK + member).to(tl.int64) * out.stride_token + (
                            kv_head * GROUP + of_group
                        ) * out.stride_head
                        tl.store(
                            out.pointer + ended_rows[:, None] + dim[None, :],
                            attended.to(out.pointer.dtype.element_ty),
                            mask=(of_group < GROUP)[:, None] & in_head[None, :],
                        )
            row_max = tl.full([ROWS], HIDDEN, tl.float32)
            row_sum = tl.zeros([ROWS], tl.float32)
            weighted = nothing_weighted(PADDED_DIM, KIND)
            done = tl.zeros([ROWS], tl.int32)
            pair_unit += shared + tl.sum(tl.where(leads, own, 0), 0)
            kv_head += 1
            if kv_head == KV_HEADS:
                kv_head = 0
                pack += 1
                if left > 0:
                    shared = tl.load(common + pack) if PACK > 1 else 0
                    row_sequence = pack * PACK + row // GROUP
                    in_pack = (row < PACKED) & (row_sequence < batch)
                    lengths = tl.load(seq_lens + row_sequence, mask=in_pack, other=0)
            stretch = tl.where(shared > 0, 0, 1)
        if left > 0:
            following = pack * PACK + tl.maximum(stretch - 1, 0)
            seq_len = tl.load(seq_lens + following, mask=following < batch, other=0)


@triton.jit(do_not_specialize=["batch", "workers"])
def combine_kernel(
    out,
    seq_lens,
    common,
    records,
    partial_out,
    partial_stats,
    batch,
    workers,
    GROUP: tl.constexpr,
    PACK: tl.constexpr,
    MEMBERS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    TILE: tl.constexpr,
    AT_ONCE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Adds up the parts of the sequences that several workers share. Grid: (query heads, batch): many small programs
    read the parts in one go.

    out: `Heads` [batch, heads, HEAD_DIM], 16 bits, is written. seq_lens: [batch] int32; the others as for
    `decode_kernel`; workers: of `plan_kernel`. AT_ONCE: parts in one iteration."""
    wait_for_last(DEPENDENT)
    head = tl.program_id(0)
    sequence = tl.program_id(1)
    pack = sequence // PACK
    turn = sequence % PACK
    kv_head = head // GROUP
    shared = tl.load(common + pack) if PACK > 1 else 0
    own = own_tiles(seq_lens, pack, shared, batch, PACK, MEMBERS, TILE)
    member = tl.arange(0, MEMBERS)
    quota = tl.load(records)
    extra = tl.load(records + 1)
    pair_unit = tl.load(records + HEADER + workers * RECORD + pack) + kv_head * (shared + tl.sum(own, 0))
    own_before = tl.sum(tl.where(member < turn, own, 0), 0)
    own_here = tl.sum(tl.where(member == turn, own, 0), 0)
    holders = parts_of(pair_unit, shared, own_before, own_here, quota, extra)
    if holders[3] < 2:
        return  # padding, or the worker stored the output itself
    attended = add_parts(
        partial_out,
        partial_stats,
        holders,
        turn * GROUP + head % GROUP,
        1,
        1,
        PACK * GROUP,
        HEAD_DIM,
        PADDED_DIM,
        AT_ONCE,
    )
    dim = tl.arange(0, PADDED_DIM)
    pointers = out.pointer + sequence.to(tl.int64) * out.stride_token + head * out.stride_head + dim
    tl.store(pointers[None, :], attended.to(out.pointer.dtype.element_ty), mask=(dim < HEAD_DIM)[None, :])
