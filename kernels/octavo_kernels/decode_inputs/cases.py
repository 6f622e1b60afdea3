"""The cases that every form of decode_inputs is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.decode_inputs import BLOCK, ROW, SEQ_LEN, TABLE_ENTRY, TOKEN, DecodeTensors, reference

TOLERANCES = dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), 0.0)
_FIELDS = 7


@dataclass(frozen=True)
class Case:
    """`seq_lens`: 0 is padding. Every second sequence goes on from its row's newest token."""

    name: str
    seq_lens: tuple[int, ...]
    rows: int
    width: int
    block_size: int = 16
    groups: int = 1


TINY_CASES = (
    Case("one token", (1,), 1, 4),
    Case("with padding", (33, 16, 17, 0, 0), 9, 4),
    Case("padding alone", (0, 0), 3, 2, block_size=8),
    Case("three groups of layers", (33, 16, 17, 0, 0), 9, 4, groups=3),
)
CASES = (
    *TINY_CASES,
    Case("8B shape", tuple(range(1, 8000, 200)), 256, 512),
    Case("long", (131_072, 70_000, 1), 4, 8192),
)


def error(form: Callable[..., None], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle, over all that is read of the results: integers, for any `dtype`."""
    assert dtype in TOLERANCES
    generator = torch.Generator().manual_seed(0)
    batch = len(case.seq_lens)
    packed = torch.zeros(_FIELDS, batch, dtype=torch.int32)
    packed[ROW] = torch.randperm(max(case.rows, batch), generator=generator)[:batch] % case.rows
    packed[SEQ_LEN] = torch.tensor(case.seq_lens)
    packed[TOKEN] = torch.where(torch.arange(batch) % 2 == 1, -1, torch.arange(batch) + 5)
    # The first sequences' last blocks are new; one entry belongs to a row that is not in the batch at all.
    last = (packed[SEQ_LEN] - 1).clamp(min=0) // case.block_size
    table = torch.arange(batch) % case.groups * case.rows + packed[ROW]
    packed[TABLE_ENTRY] = torch.where(torch.arange(batch) < batch // 2 + 1, table * case.width + last, -1)
    packed[BLOCK] = torch.arange(batch) + 100_000
    tables = torch.randint(0, 1 << 20, (case.groups, case.rows, case.width), generator=generator, dtype=torch.int32)
    newest = torch.randint(0, 1 << 17, (case.rows,), generator=generator)
    results = []
    for fill in (form, reference.decode_inputs):
        ours = tables.to(device, copy=True)
        out = DecodeTensors(
            token_ids=torch.full((batch,), -7, dtype=torch.int64, device=device),
            positions=torch.full((batch,), -7, dtype=torch.int64, device=device),
            slots=torch.full((case.groups, batch), -7, dtype=torch.int64, device=device),
            seq_lens=torch.full((batch,), -7, dtype=torch.int32, device=device),
            # As of a larger batch.
            block_tables=torch.full((case.groups, batch + 1, case.width), -7, dtype=torch.int32, device=device)[
                :, :batch
            ],
        )
        fill(packed.to(device), ours, newest.to(device), case.block_size, out)
        results.append(_flat(ours, out, case.block_size))
    return largest_error(*results)


def _flat(tables: Tensor, out: DecodeTensors, block_size: int) -> Tensor:
    used = torch.arange(out.block_tables.shape[2], device=tables.device) * block_size < out.seq_lens[:, None]
    kept = (tables, *out[:4], torch.where(used, out.block_tables, 0))
    return torch.cat([tensor.flatten().double() for tensor in kept])
