"""A request and the answers that it grows, on their way through the engine."""

from dataclasses import dataclass, field

from octavo_runtime.engine.kv_cache.block_table import BlockTable
from octavo_runtime.engine.kv_cache.prefix_hash import block_hash, root_hash
from octavo_runtime.engine.run_index import RunIndex
from octavo_runtime.protocol.messages import FinishReason
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import UNKNOWN


@dataclass(eq=False, slots=True)
class Request:
    """What was asked. `order`: place in the scheduler's queue, lower first; `max_tokens`: most tokens to generate for
    each answer, within the model's length; `end_tokens`: those that end an answer. With `pooling` it is the prompt's
    embedding: nothing is generated, and `params` mean nothing."""

    id: str
    prompt_len: int
    params: SamplingParams
    order: tuple[float, int]
    max_tokens: int
    end_tokens: frozenset[int] = frozenset()
    seed: int = 0
    cache_salt: str = ""
    arrived: float = 0.0  # by the engine's clock
    queue_deadline: float = float("inf")  # when it must have started, by the engine's clock
    deadline: float = float("inf")  # when it must have ended
    pooling: PoolingParams | None = None

    @property
    def reads_all(self) -> bool:
        """Whether the answer is made of more than the last token: what is known of the others lies with the row, so
        none may be skipped, nor computed in another row."""
        return self.pooling is not None and self.pooling.pooling != "last"


@dataclass(eq=False, slots=True)
class Sequence:
    """One answer in the making. `tokens` holds the prompt and all that was generated since, of which the last `unknown`
    are still to come from the device (UNKNOWN). Once the steps under way are done, the KV cache holds the first
    `computed` of them, in the blocks of `tables`, one for each group of layers, or in host memory while it is swapped
    out. Layers with a window hold of them what the next token sees.

    Each part has one writer: the tokens are written by the methods here, what lies in the KV cache by BlockTables, and
    the sequence's place by Scheduler."""

    request: Request
    tokens: list[int]
    index: int = 0  # which of the request's answers
    draws: list[int] = field(default_factory=lambda: [0])
    """Sample indices drawn at the next token. The first sequence of a request draws for all answers and then forks; one
    that is pooled draws none."""
    unknown: int = 0
    _hashes: list[bytes] = field(default_factory=list)

    computed: int = 0
    tables: list[BlockTable] = field(default_factory=list)  # none: it holds no blocks
    host_tables: list[BlockTable] = field(default_factory=list)
    writable: int = 0
    """Positions from `computed` up to this one lie in blocks that nobody else holds, at whose end it is; 0 where that
    must be looked up."""
    published: int = 0  # leading entries of the tables that the prefix cache was told of
    cached_tokens: int = 0  # prompt tokens found in the prefix cache when it first started

    runs: RunIndex | None = None  # of its tokens, where their successors are guessed
    accepted: int = 0  # tokens guessed right in its last step, which the executor has not been told of

    row: int | None = None  # in the executor's state, while it runs
    tables_changed: bool = False  # whether they have entries that the executor does not know
    started: bool = False  # whether it ever ran
    ended: bool = False  # it has left the scheduler, while the device may still compute for it

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

    def expect(self) -> None:
        """A token that the device draws, and nobody else knows yet, is the next one."""
        self.tokens.append(UNKNOWN)
        self.unknown += 1

    def learn(self, token: int) -> FinishReason | None:
        """The first token that was unknown, or a new one, is this; whether it ends the answer, as one of its end tokens
        or as the last that it may have."""
        request, position = self.request, len(self.tokens) - self.unknown
        if self.unknown:
            self.tokens[position] = token
            self.unknown -= 1
        else:
            self.tokens.append(token)
        if token in request.end_tokens:
            return "stop"
        return "length" if position + 1 - request.prompt_len >= request.max_tokens else None

    @property
    def is_swapped(self) -> bool:
        return bool(self.host_tables)

    @property
    def num_hashed(self) -> int:
        """How many of its blocks have a hash already."""
        return len(self._hashes)

    def block_hash(self, entry: int, block_size: int) -> bytes:
        """The hash of a full block of its known tokens, by its place; each is worked out once."""
        while len(self._hashes) <= entry:
            start = len(self._hashes) * block_size
            parent = self._hashes[-1] if self._hashes else root_hash(self.request.cache_salt)
            self._hashes.append(block_hash(parent, self.tokens[start : start + block_size]))
        return self._hashes[entry]

    def take_draws(self) -> list[int]:
        """The sample indices drawn at the token that is known by now; from here on it draws for itself alone."""
        draws, self.draws = self.draws, [self.index]
        return draws

    def fork(self, index: int) -> "Sequence":
        """Another answer that goes on from the same tokens. It holds no blocks yet."""
        return Sequence(
            self.request,
            list(self.tokens),
            index,
            [index],
            _hashes=list(self._hashes),
            cached_tokens=self.cached_tokens,
            started=self.started,
        )
