"""Decode steps as CUDA graphs: one launch for all that a step of one new token a sequence computes, from its inputs to
the drawn tokens."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from octavo_kernels.decode_inputs import BLOCK, ROW, SEQ_LEN, TABLE_ENTRY, TOKEN, DecodeTensors, decode_inputs
from octavo_kernels.draw_tokens import Newest, draw_tokens
from octavo_runtime.layers.batch import Batch, DecodeInputs
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.planning.reserves import MOST_CAPTURED
from octavo_runtime.protocol.step import Slice, TableUpdate
from octavo_runtime.worker.graph_arena import Arena, capture
from octavo_runtime.worker.sending import send

SIZES: tuple[int, ...] = (
    1,
    2,
    4,
    *range(8, 64, 8),
    *range(64, 256, 16),
    *range(256, 512, 32),
    *range(512, MOST_CAPTURED + 1, 64),
)
"""The numbers of sequences that steps are computed with."""

_KEY, _TEMPERATURE = BLOCK + 1, BLOCK + 2
_FIELDS = BLOCK + 3


class Drawn(NamedTuple):
    """What a step computed, valid until the next one: hidden states [sequences, hidden] and the tokens drawn from their
    scores [sequences] int64. The scores are not kept: those of all sizes would fill gigabytes."""

    hidden: torch.Tensor
    tokens: torch.Tensor


class _Step(NamedTuple):
    """The memory of the step of one batch size: a graph reads and writes the same addresses every time."""

    hosts: npt.NDArray[np.int32]  # [steps, fields, sequences], pinned: those before may not have read their own yet
    pinned: torch.Tensor  # the same memory
    packed: torch.Tensor  # [fields, sequences] int32 on the device
    inputs: DecodeTensors
    drawn: Drawn
    graph: torch.cuda.CUDAGraph | None


class DecodeGraphs:
    """The decode steps of a decoder over its KV cache, for up to MOST_CAPTURED sequences.

    A step is padded to the next of SIZES, each of which is captured ahead or when it is first needed. The rows' block
    tables lie on the device: a step brings what changed. Without CUDA the same operations run one by one.

    newest: [rows + 1] int64 on the device, the token last drawn for each row by a step that led (see `Launched`)."""

    def __init__(
        self,
        decoder: Decoder,
        kv_cache: torch.Tensor,
        hashes: torch.Tensor,
        max_rows: int,
        max_blocks: int,
        arena: Arena | None,
        most_under_way: int = 2,
    ) -> None:
        """hashes: see `draw_tokens`. kv_cache: see `Decoder.forward`. arena: None without CUDA. most_under_way: steps
        that may be launched and not done, the one that `run` launches among them."""
        self.most_sequences = min(MOST_CAPTURED, max_rows)
        self._decoder = decoder
        self._kv_cache = kv_cache
        self._hashes = hashes
        self._device = kv_cache.device
        self._block_size = kv_cache.shape[3]
        self._padding_row = max_rows
        groups = len(group_windows(decoder.spec))
        self._tables = torch.zeros(groups, max_rows + 1, max_blocks, dtype=torch.int32, device=self._device)
        self.newest = torch.zeros(max_rows + 1, dtype=torch.int64, device=self._device)
        self._turn, self._turns = 0, most_under_way
        shape = groups, padded_size(self.most_sequences), max_blocks
        self._block_tables = torch.zeros(shape, dtype=torch.int32, device=self._device)
        self._changes: list[TableUpdate] = []
        self._steps: dict[int, _Step] = {}
        self._arena = arena

    def note(self, tables: Sequence[TableUpdate]) -> None:
        """Block tables went on; the next step needs to know."""
        self._changes += tables

    def capture_next(self) -> bool:
        """Captures the largest size that is not captured yet; whether there was one. Only between steps. The memory
        that a size takes while it is captured serves all smaller ones."""
        largest = padded_size(self.most_sequences)
        size = next((one for one in reversed(SIZES) if one <= largest and one not in self._steps), None)
        if size is not None:
            self._step(size)
        return size is not None

    def run(self, slices: Sequence[Slice], temperatures: npt.NDArray[np.float32], keys: npt.NDArray[np.int32]) -> Drawn:
        """Computes slices of one token and one draw each. temperatures, keys: see `draw_tokens`."""
        count = len(slices)
        step = self._step(count)
        self._turn = (self._turn + 1) % self._turns
        host = step.hosts[self._turn]
        entries, blocks = self._take_changes(host.shape[1])
        host[ROW, :count] = [item.row for item in slices]
        host[SEQ_LEN, :count] = [item.start for item in slices]
        host[SEQ_LEN, :count] += 1
        host[TOKEN, :count] = [item.token_ids[0] for item in slices]
        host[TABLE_ENTRY, : len(entries)], host[TABLE_ENTRY, len(entries) :] = entries, -1
        host[BLOCK, : len(blocks)] = blocks
        host[_KEY, :count] = keys
        host[_TEMPERATURE, :count] = temperatures.view(np.int32)
        host[ROW, count:], host[SEQ_LEN, count:], host[TOKEN, count:] = self._padding_row, 0, 0
        host[_TEMPERATURE, count:] = 0
        step.packed.copy_(step.pinned[self._turn], non_blocking=True)
        if step.graph is None:
            hidden = self._compute(step)
        else:
            step.graph.replay()
            hidden = step.drawn.hidden
        return Drawn(hidden[:count], step.drawn.tokens[:count])

    def _take_changes(self, room: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Flat entries of the tables that changed and their new blocks, at most `room`; what is more is written at
        once. Of changes to one entry the last counts."""
        if not self._changes:
            none = np.empty(0, dtype=np.int64)
            return none, none
        _, rows, width = self._tables.shape
        changed = {
            (item.group * rows + item.row) * width + entry: block
            for item in self._changes
            for entry, block in enumerate(item.blocks, start=item.first)
        }
        self._changes = []
        entries = np.fromiter(changed.keys(), np.int64, len(changed))
        blocks = np.fromiter(changed.values(), np.int64, len(changed))
        if len(changed) <= room:
            return entries, blocks
        where, content = send(self._device, entries, blocks)
        self._tables.view(-1)[where] = content.int()
        return entries[:0], blocks[:0]

    def _step(self, count: int) -> _Step:
        size = padded_size(count)
        if size not in self._steps:
            self._steps[size] = self._capture(self._allocate(size))
        return self._steps[size]

    def _allocate(self, size: int) -> _Step:
        def zeros(dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(size, dtype=dtype, device=self._device)

        pinned = torch.zeros(self._turns, _FIELDS, size, dtype=torch.int32, pin_memory=self._device.type == "cuda")
        hosts = pinned.numpy()
        hosts[:, ROW], hosts[:, TABLE_ENTRY] = self._padding_row, -1
        inputs = DecodeTensors(
            token_ids=zeros(torch.int64),
            positions=zeros(torch.int64),
            slots=torch.zeros(len(self._tables), size, dtype=torch.int64, device=self._device),
            seq_lens=zeros(torch.int32),
            block_tables=self._block_tables[:, :size],
        )
        packed = pinned[0].to(self._device, copy=True)
        tokens = zeros(torch.int64)
        return _Step(hosts, pinned, packed, inputs, Drawn(tokens, tokens), None)

    def _capture(self, step: _Step) -> _Step:
        """The step with its graph, captured on padding alone."""
        if self._arena is None:
            return step
        graph, hidden = capture(self._arena, partial(self._compute, step))
        return step._replace(drawn=Drawn(hidden, step.drawn.tokens), graph=graph)

    def _compute(self, step: _Step) -> torch.Tensor:
        """The hidden states [size, hidden]; all else lands in the step's own memory."""
        inputs = step.inputs
        decode_inputs(step.packed, self._tables, self.newest, self._block_size, inputs)
        decodes = Batch(
            token_ids=inputs.token_ids,
            positions=inputs.positions,
            slots=inputs.slots,
            num_decodes=len(inputs.token_ids),
            decode=DecodeInputs(inputs.block_tables.unbind(), inputs.seq_lens),
            prefill=None,
            first_tokens=_NO_SLICES,
            last_tokens=_NO_SLICES,
        )
        hidden = self._decoder.forward(decodes, self._kv_cache)
        if self._decoder.head is None:
            return hidden
        logits = self._decoder.scores(hidden)
        temperatures = step.packed[_TEMPERATURE].view(torch.float32)
        newest = Newest(self.newest, step.packed[ROW])
        draw_tokens(logits, temperatures, step.packed[_KEY], self._hashes, step.drawn.tokens, newest)
        return hidden


_NO_SLICES = np.empty(0, dtype=np.int64)


def padded_size(count: int) -> int:
    """The number of sequences that a step of `count` is computed with."""
    return SIZES[bisect_left(SIZES, count)]
