"""The inputs of a decode step, made on the device from what the host sends and what the rows keep there."""

from typing import NamedTuple

from torch import Tensor

# What the host sends of each sequence, the first dimension of `packed`; the other fields are the sampler's.
ROW, SEQ_LEN, TOKEN, TABLE_ENTRY, BLOCK = range(5)


class DecodeTensors(NamedTuple):
    """One new token of each of a batch's sequences. groups: of layers, each with block tables of its own. Entries of
    block_tables past a sequence's last block are stale."""

    token_ids: Tensor  # [batch] int64
    positions: Tensor  # [batch] int64
    slots: Tensor  # [groups, batch] int64: where its key and value go, block * block_size + offset; -1 is padding
    seq_lens: Tensor  # [batch] int32, the new token included; 0 of a padding sequence
    block_tables: Tensor  # [groups, batch, width] int32; a group's are contiguous


def decode_inputs(packed: Tensor, tables: Tensor, newest: Tensor, block_size: int, out: DecodeTensors) -> None:
    """Takes the new entries into the rows' block tables, then fills `out`.

    Args:
        packed: [fields, batch] int32, contiguous. ROW: the sequence's row. SEQ_LEN: its tokens, the new one included; 0
            is padding. TOKEN: the new token, or -1 for the row's newest. TABLE_ENTRY and BLOCK: flat entry of `tables`
            that changes, any group's and row's, and its new block; entry -1 is none. No entry changes twice.
        tables: [groups, rows, width] int32, contiguous.
        newest: [rows] int64, the token last drawn for each row.
    """
    if packed.device.type == "cuda":
        from octavo_kernels.decode_inputs import triton

        triton.decode_inputs(packed, tables, newest, block_size, out)
    else:
        from octavo_kernels.decode_inputs import reference

        reference.decode_inputs(packed, tables, newest, block_size, out)
