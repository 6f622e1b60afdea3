"""One step of the engine as a message: what the scheduler tells every worker, and what comes back.

Plain numbers alone, so that workers in other processes or on other machines can receive it. A *row* is a place in the
executor's state: a sequence keeps its row from the moment it starts to run until it ends or is preempted.

Nothing in these messages refers back to them, so the garbage collector need not look at them: gc=False."""

from enum import IntEnum

import msgspec
import numpy as np
import numpy.typing as npt

from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams

UNKNOWN = -1
"""In a slice: the token that the step before draws for its row, which nobody but the device knows yet."""


Masks = npt.NDArray[np.int32]
"""Bits of the tokens that may be drawn, [draws, ceil(vocab / 32)], a row for each draw of a plan in order: bit t % 32
of word t // 32 is token t."""


class NewRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A sequence takes `row`. Sent before its first slice, and again after a preemption.

    `token_ids`: all that is known, the prompt first; `prompt_len` of them are the prompt. `seed` is never None here;
    randomness is a function of (seed, sample index, position). With `pooling` the prompt becomes an embedding, and
    nothing is drawn."""

    row: int
    params: SamplingParams
    token_ids: list[int]
    prompt_len: int
    seed: int
    pooling: PoolingParams | None = None


class TableUpdate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The block table of `row` for a group of layers continues, from entry `first` on, with `blocks`."""

    row: int
    first: int
    blocks: list[int]
    group: int = 0


class MoveKind(IntEnum):
    """Where a block's content goes: within the KV cache, out to host memory, or back in."""

    COPY = 0
    SWAP_OUT = 1
    SWAP_IN = 2


class Move(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Content of block `source` goes to `target`; host blocks are numbered apart from the KV cache's."""

    kind: MoveKind
    source: int
    target: int


class Slice(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Compute `token_ids` at positions `start`, `start + 1`, ... of `row`; then draw one token for each entry of
    `draws`, which names the sample index (no entry: a chunk in the middle of a prompt, or a prompt that is pooled;
    several: the row forks). UNKNOWN stands alone: it is a slice's only token.

    The last `guesses` of token_ids are guessed: with the one entry of draws a token is drawn in front of each of them
    too. `accepted`: the tokens in front of `start` that were guessed right in the row's last step."""

    row: int
    start: int
    token_ids: list[int]
    draws: list[int] = []
    guesses: int = 0
    accepted: list[int] = []

    @property
    def known(self) -> list[int]:
        """Those of token_ids that are not guessed."""
        return self.token_ids[: len(self.token_ids) - self.guesses]

    @property
    def num_drawn(self) -> int:
        """How many tokens are drawn."""
        return len(self.draws) + self.guesses


class StepPlan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step, in this order: moves (one after another, as listed), new rows, table updates, slices. masked: not every
    token may be drawn; Masks follow, for they are worked out while the model computes."""

    moves: list[Move] = []
    new_rows: list[NewRow] = []
    tables: list[TableUpdate] = []
    slices: list[Slice] = []
    masked: bool = False


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Log-probabilities at one position, of the model's own distribution (before penalties, temperature and masks):
    first the token that stands there, with its rank (1: the likeliest), then the top ones in order."""

    token_ids: list[int]
    logprobs: list[float]
    ranks: list[int]


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One drawn token. `logprobs` where the parameters ask for them."""

    token_id: int
    logprobs: TokenLogprobs | None = None


class StepResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a step brought: for each slice, in the plan's order, one sample a draw; where tokens are guessed, one in
    front of each and one behind. By the index of their slice:
    `prompt_logprobs`, of rows that ask for them, an entry for each position of the slice whose successor is a prompt
    token, that successor's; and `embeddings`, those of the pooled prompts that end in this step, little-endian
    float32."""

    samples: list[list[Sample]]
    prompt_logprobs: dict[int, list[TokenLogprobs]] = {}
    embeddings: dict[int, bytes] = {}
