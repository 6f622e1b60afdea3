"""What the layers are told of a step: its tokens, and the sequences that they belong to. Where the KV cache has them is
said for each group of layers, see `CachePlace`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class DecodeInputs:
    """Sequences with one new token each."""

    block_tables: Sequence[torch.Tensor]  # of each group [sequences, blocks] int32
    seq_lens: torch.Tensor  # [sequences] int32, the new token included


@dataclass(frozen=True)
class PrefillInputs:
    """Sequences with several new tokens each, their queries packed one after another."""

    block_tables: Sequence[torch.Tensor]  # of each group [sequences, blocks] int32
    seq_lens: torch.Tensor  # [sequences] int32, the new tokens included
    query_start: torch.Tensor  # [sequences + 1] int32
    max_query_len: int
    lengths: npt.NDArray[np.int64]  # [sequences, 2]: new tokens and all tokens, on the host


@dataclass(frozen=True)
class Drawing:
    """The tokens of a batch that draw, each the last one of its sequence; behind them padding: any token, of a sequence
    of length 0."""

    tokens: torch.Tensor  # [drawing] int64: where they are in the batch
    places: npt.NDArray[np.int64]  # the same on the host without the padding, in ascending order
    decode: DecodeInputs  # their sequences


@dataclass(frozen=True)
class Batch:
    """One step's tokens: first the sequences with a single new token, from long to short, then the others, then
    padding: tokens in front of everything, with the slot -1."""

    token_ids: torch.Tensor  # [tokens] int64
    positions: torch.Tensor  # [tokens] int64
    slots: torch.Tensor  # [groups, tokens] int64: where each token's key and value go, block * block_size + offset
    num_decodes: int
    decode: DecodeInputs | None
    prefill: PrefillInputs | None
    first_tokens: npt.NDArray[np.int64]  # [slices]: where each slice of the plan, in its order, begins
    last_tokens: npt.NDArray[np.int64]  # [slices]: and its last token
    drawing: Drawing | None = None  # where nobody wants the hidden states of other tokens

    @property
    def last_states(self) -> npt.NDArray[np.int64]:
        """[slices]: where the hidden states of each slice's last token are among those that the decoder brings; means
        nothing where they are not wanted."""
        return self.last_tokens if self.drawing is None else np.searchsorted(self.drawing.places, self.last_tokens)

    def drawing_alone(self, drawing: Drawing) -> "Batch":
        """What attention is told of the tokens that draw alone: they are decodes."""
        return replace(self, num_decodes=len(drawing.tokens), decode=drawing.decode, prefill=None)
