"""The tensors of one step, packed from the plan's slices and the rows' state."""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from octavo_runtime.layers.batch import Batch, DecodeInputs, Drawing, PrefillInputs
from octavo_runtime.protocol.step import UNKNOWN, Slice
from octavo_runtime.worker.sending import send

# So many tokens that do not draw are worth more than a layer's kernels launched by themselves; up to about so many, a
# GPU waits for the layer's weights, whatever it computes with them.
_MANY = 256


def build_batch(
    slices: Sequence[Slice],
    block_tables: npt.NDArray[np.int32],
    block_size: int,
    device: torch.device,
    newest: torch.Tensor | None = None,
    size: int | None = None,
    drawing_size: Callable[[int], int] | None = None,
) -> Batch:
    """Packs at least one slice. block_tables: [groups, rows, blocks], which already cover the slices' tokens. newest:
    [rows] int64 on the device, the token last drawn for each row, which stands for UNKNOWN. size: of tokens that the
    batch is padded to. drawing_size: where the hidden states of tokens that draw are all that is wanted,
    the number that so many are padded to, for a GPU's kernels are there for some numbers."""
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
    slots = block_tables[:, np.repeat(rows, counts), positions // block_size].astype(np.int64) * block_size
    slots += positions % block_size
    seq_lens = lengths[order].astype(np.int32)
    split = int((counts == 1).sum())

    drawing = np.flatnonzero([drawing_size is not None and bool(item.draws) for item in ordered])
    narrows = drawing_size is not None and ends[-1] - len(drawing) >= _MANY
    if not narrows:
        drawing = drawing[:0]
    padding = (0, drawing_size(len(drawing)) - len(drawing) if drawing_size is not None and len(drawing) else 0)

    def tables(part: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        width = -(-int(seq_lens[part].max(initial=0)) // block_size)
        return block_tables[:, rows[part], :width]

    token_ids = np.fromiter(chain.from_iterable(item.token_ids for item in ordered), np.int64, int(ends[-1]))
    unknown = np.flatnonzero(token_ids[:split] == UNKNOWN)
    padded = np.zeros((2 + len(slots), len(token_ids) if size is None else size), dtype=np.int64)
    padded[:, : len(token_ids)] = token_ids, positions, *slots
    padded[2:, len(token_ids) :] = -1
    query_start = np.concatenate(([0], counts[split:].cumsum())).astype(np.int32)
    decoded, chunks = slice(split), slice(split, None)
    (
        tokens,
        token_positions,
        token_slots,
        decode_tables,
        decode_lens,
        chunk_tables,
        chunk_lens,
        chunk_starts,
        unknown_tokens,
        unknown_rows,
        drawing_tokens,
        drawing_tables,
        drawing_lens,
    ) = send(
        device,
        padded[0],
        padded[1],
        padded[2:],
        tables(decoded),
        seq_lens[decoded],
        tables(chunks),
        seq_lens[chunks],
        query_start,
        unknown,
        rows[unknown],
        np.pad(ends[drawing] - 1, padding),
        np.pad(tables(drawing), ((0, 0), padding, (0, 0))),
        np.pad(seq_lens[drawing], padding),
    )
    if newest is not None and len(unknown):
        tokens[unknown_tokens] = newest[unknown_rows]
    decode = prefill = None
    if split:
        decode = DecodeInputs(decode_tables.unbind(), decode_lens)
    if split < len(ordered):
        lengths_of_chunks = np.stack([counts[chunks], lengths[order][chunks]], axis=1)
        longest = int(counts[chunks].max())
        prefill = PrefillInputs(chunk_tables.unbind(), chunk_lens, chunk_starts, longest, lengths_of_chunks)
    back = np.argsort(order)
    return Batch(
        token_ids=tokens,
        positions=token_positions,
        slots=token_slots,
        num_decodes=split,
        decode=decode,
        prefill=prefill,
        first_tokens=(ends - counts)[back],
        last_tokens=(ends - 1)[back],
        drawing=Drawing(drawing_tokens, ends[drawing] - 1, DecodeInputs(drawing_tables.unbind(), drawing_lens))
        if narrows
        else None,
    )
