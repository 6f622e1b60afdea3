"""From the hidden states of a prompt to its embedding, chunk by chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from octavo_runtime.layers.batch import Batch
from octavo_runtime.models.text_head import TextHead
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.step import NewRow, Slice


@dataclass
class _Prompt:
    """A prompt on its way through the model. so_far: [hidden] float32, of a mean the sum, of a maximum that, of "cls"
    the first token's."""

    params: PoolingParams
    length: int
    so_far: torch.Tensor | None = None

    def add(self, states: torch.Tensor) -> None:
        """The next tokens' hidden states [tokens, hidden]."""
        match self.params.pooling:
            case "mean":
                total = states.sum(0, dtype=torch.float32)
                self.so_far = total if self.so_far is None else self.so_far + total
            case "max":
                largest = states.amax(0).float()
                self.so_far = largest if self.so_far is None else self.so_far.maximum(largest)
            case "cls" if self.so_far is None:
                self.so_far = states[0].float()
            case "last":
                self.so_far = states[-1].float()

    def pooled(self) -> torch.Tensor:
        """[hidden] float32, when all states were added."""
        assert self.so_far is not None
        return self.so_far / self.length if self.params.pooling == "mean" else self.so_far


class Pooler:
    """The pooling state of the rows. Rows that draw tokens have none. head: what comes behind the pooling."""

    def __init__(self, head: TextHead) -> None:
        self._head = head
        self._prompts: dict[int, _Prompt] = {}

    def set_row(self, new: NewRow) -> None:
        """A sequence takes a row; whatever the row held before is forgotten."""
        self._prompts.pop(new.row, None)
        if new.pooling is not None:
            self._prompts[new.row] = _Prompt(new.pooling, new.prompt_len)

    @property
    def is_busy(self) -> bool:
        """Whether any row's prompt is to become an embedding."""
        return bool(self._prompts)

    def has(self, row: int) -> bool:
        """Whether a row's prompt is to become an embedding."""
        return row in self._prompts

    def pool(self, slices: Sequence[Slice], batch: Batch, hidden: torch.Tensor) -> dict[int, bytes]:
        """Takes in a step's hidden states [tokens, hidden]. Brings the embeddings of the prompts that end in this
        step, by the index of their slice: little-endian float32."""
        done: dict[int, torch.Tensor] = {}
        asked: dict[int, PoolingParams] = {}
        for index, item in enumerate(slices):
            prompt = self._prompts.get(item.row)
            if prompt is None:
                continue
            states = hidden[int(batch.first_tokens[index]) : int(batch.last_tokens[index]) + 1]
            prompt.add(states)
            if item.start + len(item.token_ids) == prompt.length:
                done[index], asked[index] = prompt.pooled(), prompt.params
                del self._prompts[item.row]
        if not done:
            return {}
        rows = self._head(torch.stack(list(done.values()))).cpu()
        return {index: _shaped(row, asked[index]) for index, row in zip(done, rows, strict=True)}


def _shaped(row: torch.Tensor, params: PoolingParams) -> bytes:
    """As a request wants its vector [numbers] float32."""
    row = row[: params.dimensions]
    row = normalize(row, dim=0) if params.normalize else row
    return row.numpy().astype("<f4", copy=False).tobytes()
