"""decode_inputs in Triton: first the tables' new entries, then one program a sequence and group of layers."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.decode_inputs import DecodeTensors

PIECE = 1024  # entries of a table that a program copies at a time


@triton.jit(do_not_specialize=["batch"])
def update_kernel(packed, tables, batch, PADDED: tl.constexpr):
    """Writes the new entries into the rows' block tables. Grid: (1,).

    packed: [fields, batch] int32, of which it reads TABLE_ENTRY and BLOCK. tables: [rows, width] int32, contiguous.
    PADDED: batch, up to a power of two."""
    sequence = tl.arange(0, PADDED)
    mask = sequence < batch
    entry = tl.load(packed + 3 * batch + sequence, mask=mask, other=-1)
    block = tl.load(packed + 4 * batch + sequence, mask=mask, other=0)
    tl.store(tables + entry, block, mask=entry >= 0)


@triton.jit(do_not_specialize=["batch", "rows", "stride_group"])
def inputs_kernel(
    token_ids,
    positions,
    slots,
    seq_lens,
    block_tables,
    packed,
    tables,
    newest,
    batch,
    rows,
    width,
    stride_group,
    BLOCK_SIZE: tl.constexpr,
    PIECE: tl.constexpr,
):
    """Fills the tensors of a decode step. Grid: (batch, groups), a sequence's tables of one group each.

    token_ids, positions: [batch] int64, slots: [groups, batch] int64, seq_lens: [batch] int32, block_tables: [groups,
    batch, width] int32: what is written, see `DecodeTensors`. packed: [fields, batch] int32, of which it reads ROW,
    SEQ_LEN and TOKEN. tables: [groups, rows, width] int32. newest: [rows] int64. All are contiguous, but that a group's
    block_tables are stride_group apart. PIECE: entries of a table copied at a time."""
    sequence = tl.program_id(0)
    group = tl.program_id(1).to(tl.int64)
    row = tl.load(packed + sequence).to(tl.int64)
    seq_len = tl.load(packed + batch + sequence)
    token = tl.load(packed + 2 * batch + sequence).to(tl.int64)
    drawn = tl.load(newest + row)
    last = tl.maximum(seq_len - 1, 0)
    table = tables + (group * rows + row) * width
    block = tl.load(table + last // BLOCK_SIZE).to(tl.int64)
    if group == 0:
        tl.store(token_ids + sequence, tl.where(token < 0, drawn, token))
        tl.store(positions + sequence, last.to(tl.int64))
        tl.store(seq_lens + sequence, seq_len)
    tl.store(slots + group * batch + sequence, tl.where(seq_len > 0, block * BLOCK_SIZE + last % BLOCK_SIZE, -1))
    copied = block_tables + group * stride_group + sequence.to(tl.int64) * width
    blocks = tl.cdiv(seq_len, BLOCK_SIZE)
    for start in range(0, blocks, PIECE):
        entry = start + tl.arange(0, PIECE)
        tl.store(copied + entry, tl.load(table + entry, mask=entry < blocks), mask=entry < blocks)


def decode_inputs(packed: Tensor, tables: Tensor, newest: Tensor, block_size: int, out: DecodeTensors) -> None:
    """See `octavo_kernels.decode_inputs`."""
    batch, (groups, rows, width) = packed.shape[1], tables.shape
    update_kernel[(1,)](packed, tables, batch, PADDED=triton.next_power_of_2(batch))
    inputs_kernel[(batch, groups)](
        *out,
        packed,
        tables,
        newest,
        batch,
        rows,
        width,
        out.block_tables.stride(0),
        BLOCK_SIZE=block_size,
        PIECE=PIECE,
        num_warps=4,
    )
