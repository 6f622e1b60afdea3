"""The tensors of one step, packed from the plan's slices and the rows' state."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from octavo_runtime.layers.batch import Batch, DecodeInputs, PrefillInputs
from octavo_runtime.protocol.step import UNKNOWN, Slice


def build_batch(
    slices: Sequence[Slice],
    block_tables: npt.NDArray[np.int32],
    block_size: int,
    device: torch.device,
    newest: torch.Tensor | None = None,
) -> Batch:
    """Packs at least one slice. block_tables: [rows, blocks], which already cover the slices' tokens. newest: [rows]
    int64 on the device, the token last drawn for each row, which stands for UNKNOWN."""
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
        return send(values, device)

    def tables(part: slice) -> torch.Tensor:
        width = -(-int(seq_lens[part].max()) // block_size)
        return to_device(block_tables[rows[part], :width])

    decode = prefill = None
    if split:
        decode = DecodeInputs(tables(slice(split)), to_device(seq_lens[:split]))
    if split < len(ordered):
        query_start = np.concatenate(([0], counts[split:].cumsum())).astype(np.int32)
        prefill = PrefillInputs(
            tables(slice(split, None)),
            to_device(seq_lens[split:]),
            to_device(query_start),
            int(counts[split:].max()),
            np.stack([counts[split:], lengths[order][split:]], axis=1),
        )
    back = np.argsort(order)
    token_ids = np.fromiter(chain.from_iterable(item.token_ids for item in ordered), np.int64, int(ends[-1]))
    tokens = to_device(token_ids)
    if newest is not None and (token_ids[:split] == UNKNOWN).any():
        decoded = tokens[:split]
        decoded.copy_(torch.where(decoded == UNKNOWN, newest[to_device(rows[:split])], decoded))
    return Batch(
        token_ids=tokens,
        positions=to_device(positions),
        slots=to_device(slots),
        num_decodes=split,
        decode=decode,
        prefill=prefill,
        first_tokens=(ends - counts)[back],
        last_tokens=(ends - 1)[back],
    )


def send(values: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """The values on a device, copied behind what it has to do already without waiting for that."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
