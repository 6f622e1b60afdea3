"""The oracle of decode_inputs."""

import torch
from torch import Tensor

from octavo_kernels.decode_inputs import BLOCK, ROW, SEQ_LEN, TABLE_ENTRY, TOKEN, DecodeTensors


def decode_inputs(packed: Tensor, tables: Tensor, newest: Tensor, block_size: int, out: DecodeTensors) -> None:
    """See `octavo_kernels.decode_inputs`."""
    fields = packed.long()
    changed = fields[TABLE_ENTRY] >= 0
    tables.view(-1)[fields[TABLE_ENTRY, changed]] = packed[BLOCK, changed]
    row, last = fields[ROW], (fields[SEQ_LEN] - 1).clamp(min=0)
    out.token_ids.copy_(torch.where(fields[TOKEN] < 0, newest[row], fields[TOKEN]))
    out.positions.copy_(last)
    out.seq_lens.copy_(packed[SEQ_LEN])
    out.block_tables.copy_(tables[:, row])
    slots = tables[:, row, last // block_size] * block_size + last % block_size
    out.slots.copy_(torch.where(fields[SEQ_LEN] > 0, slots, -1))
