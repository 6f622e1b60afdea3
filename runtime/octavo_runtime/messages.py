"""What crosses the border between the API process and the engine process: msgpack over zmq, one type a message."""

from typing import Literal

import msgspec

from octavo_runtime.sampling_params import SamplingParams

FinishReason = Literal["stop", "length", "abort", "error"]


class Add(msgspec.Struct, tag="add", frozen=True):
    """Start a request. `prompt`: token ids, at least one."""

    request_id: str
    prompt: list[int]
    params: SamplingParams


class Abort(msgspec.Struct, tag="abort", frozen=True):
    """Stop a request and free its blocks; unknown ids are ignored."""

    request_id: str


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """The first message of a client; the engine answers Ready, or Failed, once it knows."""


Command = Hello | Add | Abort


class Output(msgspec.Struct, frozen=True, array_like=True):
    """New tokens of one request. With finish_reason "stop" the last token is the end-of-sequence or stop token itself:
    counted in the usage, never shown as text. `error` says why, with finish_reason "error"."""

    request_id: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    error: str | None = None


class Load(msgspec.Struct, frozen=True, array_like=True):
    """The engine's load after a step. Blocks count the whole KV cache."""

    running: int = 0
    waiting: int = 0
    blocks_used: int = 0
    blocks_total: int = 0
    preemptions: int = 0


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """The engine can serve. `max_model_len`, `block_size` and `num_blocks` are what it settled on."""

    max_model_len: int
    vocab_size: int
    block_size: int
    num_blocks: int
    device: str
    dtype: str
    weight_bytes: int
    load_seconds: float


class Step(msgspec.Struct, tag="step", frozen=True):
    """All that one engine step brought for one client. With no outputs it is a heartbeat: the loop is alive."""

    outputs: list[Output]
    load: Load


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The engine cannot start or go on; it ends after this message. One line for a person."""

    message: str


Event = Ready | Step | Failed
