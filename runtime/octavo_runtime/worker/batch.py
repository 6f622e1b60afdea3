"""The tensors of one step, packed from the plan's slices and the rows' state."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from octavo_runtime.layers.batch import Batch, DecodeInputs, PrefillInputs
from octavo_runtime.protocol.step import Slice


def build_batch(
    slices: Sequence[Slice], block_tables: npt.NDArray[np.int32], block_size: int, device: torch.device
) -> Batch:
    """Packs at least one slice. block_tables: [rows, blocks], which already cover the slices' tokens."""
    counts = np.array([len(item.token_ids) for item in slices])
    lengths = np.array([item.start for item in slices]) + counts
    # Decodes first, from long to short: the CPU's attention takes sequences of similar length together.
    order = np.lexsort((-lengths, counts > 1))
    ordered = [slices[index] for index in order]
    counts = counts[order]
    ends = counts.cumsum()
    starts = np.array([item.start for item in ordered])
    rows = np.array([item.row for item in ordered])
    positions = np.arange(ends[-1]) + np.repeat(starts - (ends - counts), counts)
    slots = block_tables[np.repeat(rows, counts), positions // block_size].astype(np.int64) * block_size
    slots += positions % block_size
    seq_lens = lengths[order].astype(np.int32)
    split = int((counts == 1).sum())

    def to_device(values: npt.NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values).to(device, non_blocking=True)

    def tables(part: slice) -> torch.Tensor:
        width = -(-int(seq_lens[part].max()) // block_size)
        return to_device(block_tables[rows[part], :width])

    decode = prefill = None
    if split:
        decode = DecodeInputs(tables(slice(split)), to_device(seq_lens[:split]))
    if split < len(ordered):
        query_start = np.concatenate(([0], counts[split:].cumsum())).astype(np.int32)
        prefill = PrefillInputs(
            tables(slice(split, None)), to_device(seq_lens[split:]), to_device(query_start), int(counts[split:].max())
        )
    back = np.argsort(order)
    return Batch(
        token_ids=to_device(np.concatenate([np.array(item.token_ids, dtype=np.int64) for item in ordered])),
        positions=to_device(positions),
        slots=to_device(slots),
        num_decodes=split,
        decode=decode,
        prefill=prefill,
        first_tokens=(ends - counts)[back],
        last_tokens=(ends - 1)[back],
    )
