"""What crosses the border between the API process and the engine process: msgpack over zmq, one type a message."""

import reprlib
from typing import Literal

import msgspec

from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams, check_unicode
from octavo_runtime.protocol.step import TokenLogprobs
from octavo_runtime.protocol.text_task import TextTask

FinishReason = Literal["stop", "length", "error"]

# Why a request ended with finish_reason "error". invalid: the requester's own fault, such as a schema that does not
# compile; overloaded: the queue was full; queue_timeout: it waited too long for its turn; deadline: its own time limit.
ErrorKind = Literal["invalid", "overloaded", "queue_timeout", "deadline"]

PRIORITY_LIMIT = 2**31 - 1


class Add(msgspec.Struct, tag="add", frozen=True):
    """Start a request. `prompt`: token ids, at least one. A lower `priority` goes first. `cache_salt` keeps its blocks
    in the prefix cache apart from those of other salts. `timeout`: seconds from now until it must have ended.

    InvalidParameter where one of these four has another type: an engine that cannot read a message ends, with the
    requests of all others."""

    request_id: str
    prompt: list[int]
    params: SamplingParams
    priority: int = 0
    cache_salt: str = ""
    timeout: float | None = None

    def __post_init__(self) -> None:
        _check_types(self)


class Embed(msgspec.Struct, tag="embed", frozen=True):
    """Start a request for the embedding of a prompt; the other arguments are those of Add. It ends with one Output."""

    request_id: str
    prompt: list[int]
    params: PoolingParams
    priority: int = 0
    cache_salt: str = ""
    timeout: float | None = None

    def __post_init__(self) -> None:
        _check_types(self)


class Abort(msgspec.Struct, tag="abort", frozen=True):
    """Stop a request, or only the answer `index` of it, and free the blocks; unknown ids are ignored."""

    request_id: str
    index: int | None = None


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """The first message of a client; the engine answers Ready, or Failed, once it knows."""


class Inspect(msgspec.Struct, tag="inspect", frozen=True):
    """Ask for the block map; the engine answers BlockMap after its current step."""


Command = Hello | Add | Embed | Abort | Inspect


class RequestError(msgspec.Struct, frozen=True, array_like=True):
    """Why a request ended without an answer. `field`: the path of the parameter at fault, for kind "invalid"; the
    reason is what stands behind it."""

    kind: ErrorKind
    reason: str
    field: str | None = None

    @property
    def message(self) -> str:
        """Both in one line."""
        return self.reason if self.field is None else f"{self.field} {self.reason}"


class Output(msgspec.Struct, frozen=True, array_like=True, gc=False):  # gc: see step
    """New tokens of one answer of a request; `index` tells the answers of a request (n, best_of, beams) apart.

    With finish_reason "stop" the last token is the end-of-sequence or stop token itself: counted in the usage, never
    shown as text. `logprobs`: one entry a token, where asked for. `cached_tokens`, `prompt_logprobs` and `queued`, the
    seconds from the request's arrival in the engine to its first step, come with its first output. `score`: set at the
    end of a beam. An error ends all answers of its request. `embedding`: the answer to an Embed, [hidden_size]
    little-endian float32 or fewer."""

    request_id: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    index: int = 0
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs] | None = None
    cached_tokens: int = 0
    score: float | None = None
    error: RequestError | None = None
    queued: float | None = None
    embedding: bytes | None = None


class Load(msgspec.Struct, frozen=True, array_like=True):
    """The engine's load after a step. Blocks count the whole KV cache; `blocks_cached` hold a prefix that nobody uses
    now. `slots_wasted`: slots in held blocks that hold no token. All counters run from the start."""

    running: int = 0
    waiting: int = 0
    swapped: int = 0
    blocks_used: int = 0
    blocks_cached: int = 0
    blocks_total: int = 0
    slots_wasted: int = 0
    recomputes: int = 0
    swaps: int = 0
    prefix_queries: int = 0  # prompt tokens looked up in the prefix cache
    prefix_hits: int = 0  # of these, tokens found there
    guess_runs: int = 0  # runs of tokens that were guessed and checked
    guessed: int = 0  # tokens of them
    guessed_right: int = 0  # of these, tokens that were drawn too


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """The engine can serve. `max_model_len`, `block_size` and `num_blocks` are what it settled on. `hidden_size`: how
    many numbers its vectors or scores have. `keeps_tokens`: whether it has a KV cache; without one a prompt is computed
    as a whole. `layer_groups`: how many blocks hold a token, one in each group of layers."""

    max_model_len: int
    vocab_size: int
    block_size: int
    num_blocks: int
    num_host_blocks: int
    device: str
    dtype: str
    weight_bytes: int
    load_seconds: float
    hidden_size: int
    task: TextTask = TextTask()
    keeps_tokens: bool = True
    layer_groups: int = 1

    @property
    def num_whole_blocks(self) -> int:
        """Blocks of all layers that the KV cache has room for."""
        return self.num_blocks // self.layer_groups


class Beat(msgspec.Struct, frozen=True, array_like=True):
    """The engine's process lives. It comes by a way of its own (see pulse). `busy`: for how many seconds the loop has
    been at its present turn, 0 where it waits for work. `patience`: after how many it counts as hung. `failure`: why it
    is about to end, where its loop cannot say so."""

    busy: float
    patience: float
    failure: str = ""


class Step(msgspec.Struct, tag="step", frozen=True):
    """All that one engine step brought for one client; without outputs, the present load."""

    outputs: list[Output]
    load: Load


class BlockMap(msgspec.Struct, tag="blocks", frozen=True):
    """The KV cache's blocks: how many sequences hold each one (0: nobody), whether its content is in the prefix cache,
    how many of its slots hold a token, and the sequences' block tables."""

    block_size: int
    references: list[int]
    cached: list[bool]
    filled: list[int]
    tables: dict[str, list[int]]


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The engine cannot start or go on; it ends after this message. One line for a person. refused: what was asked of
    it cannot be, so that starting it again is no use."""

    message: str
    refused: bool = False


Event = Ready | Step | BlockMap | Failed

# Made at import, not with the first message: msgspec describes a struct at its first use, and two threads that are both
# the first end the process.
COMMANDS, EVENTS = msgspec.msgpack.Decoder(Command), msgspec.msgpack.Decoder(Event)
BEATS = msgspec.msgpack.Decoder(Beat)


def _check_types(request: Add | Embed) -> None:
    for name in ("request_id", "cache_salt"):
        text = getattr(request, name)
        if not isinstance(text, str):
            raise InvalidParameter(name, f"must be text, got {reprlib.repr(text)}")
        check_unicode(name, text)
    priority, timeout = request.priority, request.timeout
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise InvalidParameter("priority", f"must be an integer, got {reprlib.repr(priority)}")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float | None):
        raise InvalidParameter("timeout", f"must be a number of seconds, got {reprlib.repr(timeout)}")
