"""From the hidden states of a prompt to its embedding, chunk by chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from octavo_runtime.layers.batch import Batch
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.step import NewRow, Slice


@dataclass
class _Prompt:
    """A prompt on its way through the model. total: of a mean, the sum so far, [hidden] float32."""

    params: PoolingParams
    length: int
    total: torch.Tensor | float = 0.0

    def add(self, states: torch.Tensor) -> None:
        """The next tokens' hidden states [tokens, hidden]."""
        if self.params.pooling == "mean":
            self.total = self.total + states.sum(0, dtype=torch.float32)

    def pooled(self, states: torch.Tensor) -> torch.Tensor:
        """[hidden] float32, when `states` were the last ones."""
        if isinstance(self.total, torch.Tensor):
            return self.total / self.length
        return states[-1].float()


class Pooler:
    """The pooling state of the rows. Rows that draw tokens have none."""

    def __init__(self) -> None:
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
        step, by the index of their slice: [hidden] little-endian float32."""
        done: dict[int, torch.Tensor] = {}
        normalized: list[bool] = []
        for index, item in enumerate(slices):
            prompt = self._prompts.get(item.row)
            if prompt is None:
                continue
            states = hidden[int(batch.first_tokens[index]) : int(batch.last_tokens[index]) + 1]
            prompt.add(states)
            if item.start + len(item.token_ids) == prompt.length:
                done[index] = prompt.pooled(states)
                normalized.append(prompt.params.normalize)
                del self._prompts[item.row]
        if not done:
            return {}
        rows = torch.stack(list(done.values()))
        rows = torch.where(torch.tensor(normalized, device=rows.device)[:, None], normalize(rows, dim=1), rows)
        vectors = rows.cpu().numpy().astype("<f4", copy=False)
        return {index: vector.tobytes() for index, vector in zip(done, vectors, strict=True)}
