"""How workers share the tiles of paged_decode for Hopper: the kernels that plan it, and who holds parts of what; see
`hopper`."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl

from octavo_kernels.dependent_launch import wait_for_last

HEADER = tl.constexpr(4)  # ints before the workers' records: a worker's units at least, and how many have one more
# Ints a worker: pack, KV head, stretch and its tile, units, tile of the pair, tiles in common, length of the sequence.
RECORD = tl.constexpr(8)
TABLE_PIECE = 128  # entries of a pack's tables compared at a time


@triton.jit
def own_tiles(seq_lens, pack, common, batch, PACK: tl.constexpr, MEMBERS: tl.constexpr, TILE: tl.constexpr):
    """[MEMBERS] int32: tiles of a pack's members behind those in common. MEMBERS: PACK, up to a power of two."""
    member = tl.arange(0, MEMBERS)
    sequence = pack * PACK + member
    lengths = tl.load(seq_lens + sequence, mask=(member < PACK) & (sequence < batch), other=0)
    return tl.maximum(tl.cdiv(lengths, TILE) - common, 0)


@triton.jit(do_not_specialize=["stride_table", "batch"])
def common_kernel(
    common,
    block_tables,
    stride_table,
    seq_lens,
    batch,
    PACK: tl.constexpr,
    MEMBERS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    PIECE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """How many whole tiles the members of each pack have in common at the front. Grid: (packs,).

    common: [packs] int32, written: 0 of a single member. block_tables: [batch, width] int32; seq_lens: [batch] int32.
    MEMBERS: PACK, up to a power of two. PIECE: entries of the tables compared at a time."""
    wait_for_last(DEPENDENT)
    pack = tl.program_id(0)
    member = tl.arange(0, MEMBERS)
    sequence = pack * PACK + member
    lengths = tl.load(seq_lens + sequence, mask=(member < PACK) & (sequence < batch), other=0)
    is_real = lengths > 0  # the others are padding, and stand behind all that are real
    shortest = tl.min(tl.where(is_real, lengths, 2147483647), 0)
    entries = tl.where(tl.sum(is_real.to(tl.int32), 0) > 1, shortest // BLOCK_SIZE, 0)
    first_table = block_tables + (pack * PACK).to(tl.int64) * stride_table
    table = block_tables + sequence.to(tl.int64) * stride_table
    same = 0
    start = 0
    while start < entries:
        entry = start + tl.arange(0, PIECE)
        leading = tl.load(first_table + entry, mask=entry < entries, other=-1)
        read = is_real[:, None] & (entry < entries)[None, :]
        differs = read & (tl.load(table[:, None] + entry[None, :], mask=read, other=-1) != leading[None, :])
        differing = tl.where(tl.sum(differs.to(tl.int32), 0) > 0, entry, entries)
        same = tl.minimum(tl.min(differing, 0), entries)
        start = tl.where(same < start + PIECE, entries, start + PIECE)
    tl.store(common + pack, same * BLOCK_SIZE // TILE)


@triton.jit
def begin_of(worker, quota, extra):
    """The worker's first unit: the first `extra` workers have quota + 1, the others quota."""
    return worker * quota + tl.minimum(worker, extra)


@triton.jit(do_not_specialize=["batch"])
def plan_kernel(
    seq_lens,
    common,
    records,
    batch,
    workers,
    KV_HEADS: tl.constexpr,
    PACK: tl.constexpr,
    MEMBERS: tl.constexpr,
    TILE: tl.constexpr,
    PACKS: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Where each worker begins. Grid: (workers,).

    seq_lens: [batch] int32. common: of `common_kernel`. records: int32, written: HEADER numbers, RECORD for each
    worker, and behind them, [packs], the units before each pack. TILE: positions of a unit. MEMBERS, PACKS: PACK, packs
    of the batch, up to a power of two."""
    wait_for_last(DEPENDENT)
    worker = tl.program_id(0)
    pack = tl.arange(0, PACKS)
    member = tl.arange(0, MEMBERS)
    sequence = pack[:, None] * PACK + member[None, :]
    is_pack = pack * PACK < batch
    lengths = tl.load(seq_lens + sequence, mask=(member < PACK)[None, :] & (sequence < batch), other=0)
    shared = tl.load(common + pack, mask=is_pack, other=0) if PACK > 1 else tl.zeros([PACKS], tl.int32)
    tiles = shared + tl.sum(tl.maximum(tl.cdiv(lengths, TILE) - shared[:, None], 0), 1)
    units = tiles * KV_HEADS
    through = tl.cumsum(units, 0)
    total = tl.sum(units, 0)
    used = tl.maximum(tl.minimum(workers, total), 1)
    quota = total // used
    extra = total % used
    first = begin_of(worker, quota, extra)
    begins_in = tl.minimum(tl.sum((through <= first).to(tl.int32), 0), tl.cdiv(batch, PACK) - 1)
    here = pack == begins_in
    offset = first - tl.sum(tl.where(pack < begins_in, units, 0), 0)
    tiles_here = tl.maximum(tl.sum(tl.where(here, tiles, 0), 0), 1)
    shared_here = tl.sum(tl.where(here, shared, 0), 0)
    tile = offset % tiles_here
    own = own_tiles(seq_lens, begins_in, shared_here, batch, PACK, MEMBERS, TILE)
    own_through = shared_here + tl.cumsum(own, 0)
    passed = tl.sum((own_through <= tile).to(tl.int32), 0)
    in_common = tile < shared_here
    before = shared_here + tl.sum(tl.where(member < passed, own, 0), 0)
    stretch = tl.where(in_common, 0, passed + 1)
    turn = begins_in * PACK + tl.maximum(stretch - 1, 0)
    record = records + HEADER + worker * RECORD
    tl.store(record, begins_in)
    tl.store(record + 1, offset // tiles_here)
    tl.store(record + 2, stretch)
    tl.store(record + 3, tl.where(in_common, tile, tile - before))
    tl.store(record + 4, tl.where(worker < used, begin_of(worker + 1, quota, extra) - first, 0))
    tl.store(record + 5, tile)
    tl.store(record + 6, shared_here)
    tl.store(record + 7, tl.load(seq_lens + turn, mask=turn < batch, other=0))
    if worker == 0:
        tl.store(records, quota)
        tl.store(records + 1, extra)
        tl.store(records + HEADER + workers * RECORD + pack, through - units, mask=is_pack)


@triton.jit
def worker_of(unit, quota, extra):
    """Whose unit this is. quota, extra: of the header."""
    is_longer = unit < extra * (quota + 1)
    return tl.where(is_longer, unit, unit - extra) // tl.where(is_longer, quota + 1, quota)


@triton.jit
def parts_of(pair_unit, common, before, own, quota, extra):
    """Who holds parts of a sequence and a KV head: workers from `first` on, `leading` of them, of the positions in
    common, and from `then` on, those of its own; `parts` of both; and the first worker's slot.

    pair_unit: the pair's first unit; common, before, own: its tiles in common, those of members in front, and the
    sequence's own. quota, extra: of the header. Worker w has two slots: 2w for the pair that it begins in, 2w + 1 for a
    later one that it does not finish."""
    first = worker_of(pair_unit, quota, extra)
    begins_before = begin_of(first, quota, extra) < pair_unit
    own_unit = pair_unit + common + before
    then = worker_of(own_unit, quota, extra)
    last = worker_of(own_unit + tl.maximum(own, 1) - 1, quota, extra)
    leading = 0
    if common > 0:
        leading = worker_of(pair_unit + common - 1, quota, extra) - first + 1
        then = tl.maximum(then, first + leading)
    parts = leading + tl.where(own > 0, last - then + 1, 0)
    return first, leading, then, parts, 2 * first + begins_before.to(tl.int32)


@triton.jit
def slots_of(part, first, leading, then, first_slot):
    """Where the parts with these numbers lie. The others: of `parts_of`."""
    worker = tl.where(part < leading, first + part, then + part - leading)
    return tl.where(worker == first, first_slot, 2 * worker)
