"""The tensors of one step, packed from the scheduler's slices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from octavo_runtime.scheduler import Slice


@dataclass(frozen=True)
class DecodeInputs:
    """Sequences with one new token each."""

    block_tables: torch.Tensor  # [sequences, blocks] int32
    seq_lens: torch.Tensor  # [sequences] int32, the new token included


@dataclass(frozen=True)
class PrefillInputs:
    """Sequences with several new tokens each, their queries packed one after another."""

    block_tables: torch.Tensor  # [sequences, blocks] int32
    seq_lens: torch.Tensor  # [sequences] int32, the new tokens included
    query_start: torch.Tensor  # [sequences + 1] int32
    max_query_len: int


@dataclass(frozen=True)
class Batch:
    """One step's tokens: first the sequences with a single new token, then the others."""

    token_ids: torch.Tensor  # [tokens] int64
    positions: torch.Tensor  # [tokens] int64
    slots: torch.Tensor  # [tokens] int64: where each token's key and value go, block * block_size + offset
    num_decodes: int
    decode: DecodeInputs | None
    prefill: PrefillInputs | None
    sample_rows: torch.Tensor  # [samples] int64: tokens whose successor is sampled
    sampled: tuple[Slice, ...]  # the slices behind sample_rows


def build_batch(slices: Sequence[Slice], block_size: int, device: torch.device) -> Batch:
    """Packs at least one slice. Every slice's block table already covers its tokens."""
    decodes = [item for item in slices if item.count == 1]
    prefills = [item for item in slices if item.count > 1]
    ordered = decodes + prefills
    counts = np.array([item.count for item in ordered])
    ends = counts.cumsum()
    rows = [index for index, item in enumerate(ordered) if item.samples]

    def to_device(values: npt.NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    return Batch(
        token_ids=to_device(
            np.concatenate([np.array(item.request.tokens[item.start : item.start + item.count]) for item in ordered])
        ),
        positions=to_device(np.concatenate([np.arange(item.start, item.start + item.count) for item in ordered])),
        slots=to_device(np.concatenate([_slots(item, block_size) for item in ordered])),
        num_decodes=len(decodes),
        decode=DecodeInputs(to_device(_block_tables(decodes)), to_device(_seq_lens(decodes))) if decodes else None,
        prefill=PrefillInputs(
            to_device(_block_tables(prefills)),
            to_device(_seq_lens(prefills)),
            to_device(np.array([0, *(item.count for item in prefills)]).cumsum().astype(np.int32)),
            max(item.count for item in prefills),
        )
        if prefills
        else None,
        sample_rows=to_device(ends[rows] - 1),
        sampled=tuple(ordered[index] for index in rows),
    )


def _slots(item: Slice, block_size: int) -> npt.NDArray[np.int64]:
    positions = np.arange(item.start, item.start + item.count)
    blocks = np.array(item.request.block_table, dtype=np.int64)[positions // block_size]
    slots: npt.NDArray[np.int64] = blocks * block_size + positions % block_size
    return slots


def _block_tables(slices: Sequence[Slice]) -> npt.NDArray[np.int32]:
    width = max(len(item.request.block_table) for item in slices)
    tables = np.zeros((len(slices), width), dtype=np.int32)
    for row, item in enumerate(slices):
        tables[row, : len(item.request.block_table)] = item.request.block_table
    return tables


def _seq_lens(slices: Sequence[Slice]) -> npt.NDArray[np.int32]:
    return np.array([item.start + item.count for item in slices], dtype=np.int32)
