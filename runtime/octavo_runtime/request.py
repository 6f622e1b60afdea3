"""A request and the answers that it grows, on their way through the engine."""

from dataclasses import dataclass, field

from octavo_runtime.messages import FinishReason
from octavo_runtime.pooling_params import PoolingParams
from octavo_runtime.prefix_hash import block_hash, root_hash
from octavo_runtime.sampling_params import SamplingParams


@dataclass(eq=False)
class Request:
    """What was asked. `order`: place in the scheduler's queue, lower first; `max_tokens`: most tokens to generate for
    each answer. With `pooling` it is the prompt's embedding: nothing is generated, and `params` mean nothing."""

    id: str
    prompt_len: int
    params: SamplingParams
    order: tuple[float, int]
    max_tokens: int
    seed: int = 0
    cache_salt: str = ""
    arrived: float = 0.0  # by the engine's clock
    queue_deadline: float = float("inf")  # when it must have started, by the engine's clock
    deadline: float = float("inf")  # when it must have ended
    pooling: PoolingParams | None = None

    @property
    def averages(self) -> bool:
        """Whether the answer is a mean over all tokens: its sum lies with the row, so none may be skipped, nor computed
        in another row."""
        return self.pooling is not None and self.pooling.pooling == "mean"


@dataclass(eq=False)
class Sequence:
    """One answer in the making. `tokens` holds the prompt and all that was generated since; the KV cache holds the
    first `computed` of them, in the blocks of `block_table`, or in host memory while it is swapped out."""

    request: Request
    tokens: list[int]
    index: int = 0  # which of the request's answers
    draws: list[int] = field(default_factory=lambda: [0])
    """Sample indices drawn at the next token. The first sequence of a request draws for all answers and then forks; one
    that is pooled draws none."""
    computed: int = 0
    block_table: list[int] = field(default_factory=list)
    host_blocks: list[int] = field(default_factory=list)
    published: int = 0  # leading blocks of the table that the prefix cache was told of
    synced: int = 0  # leading entries of the table that the executor knows
    row: int | None = None  # in the executor's state, while it runs
    started: bool = False  # whether it ever ran
    paused: bool = False  # a beam whose successors wait for the other beams
    cached_tokens: int = 0  # prompt tokens found in the prefix cache when it first started
    _hashes: list[bytes] = field(default_factory=list)

    @property
    def order(self) -> tuple[float, int, int]:
        """Place among all sequences, lower first."""
        return (*self.request.order, self.index)

    @property
    def known(self) -> int:
        return len(self.tokens)

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.request.prompt_len

    @property
    def is_swapped(self) -> bool:
        return bool(self.host_blocks)

    def block_hashes(self, block_size: int) -> list[bytes]:
        """Hashes of all full blocks of its known tokens, each worked out once."""
        for start in range(len(self._hashes) * block_size, self.known - block_size + 1, block_size):
            parent = self._hashes[-1] if self._hashes else root_hash(self.request.cache_salt)
            self._hashes.append(block_hash(parent, self.tokens[start : start + block_size]))
        return self._hashes

    def fork(self, index: int) -> "Sequence":
        """Another answer that goes on from the same tokens. It holds no blocks yet."""
        return Sequence(
            self.request,
            list(self.tokens),
            index,
            [index],
            started=self.started,
            cached_tokens=self.cached_tokens,
            _hashes=list(self._hashes),
        )


def finish_reason(sequence: Sequence, eos_token_ids: frozenset[int], max_model_len: int) -> FinishReason | None:
    """Whether the newest token ends the answer: its own stop tokens, the model's end, or a length limit."""
    token, params = sequence.tokens[-1], sequence.request.params
    if token in params.stop_token_ids or (token in eos_token_ids and not params.ignore_eos):
        return "stop"
    if sequence.generated >= sequence.request.max_tokens or sequence.known >= max_model_len:
        return "length"
    return None
