"""POST /v1/embeddings: pooled hidden states of the served model (platform.openai.com/docs/api-reference/embeddings)."""

import asyncio
import base64
import struct
import uuid
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from octavo_runtime.engine_process.client import EngineFailure
from octavo_runtime.protocol.pooling_params import Pooling, PoolingParams
from octavo_runtime.server.fields.nulls import null_is_absent
from octavo_runtime.server.fields.prompts import Prompts, at_most, listed
from octavo_runtime.server.fields.text import Text
from octavo_runtime.server.generation.bounds import (
    MOST_INPUTS,
    AtLeastOne,
    CacheSalt,
    Priority,
    check_prompt,
    check_text,
    truncated,
)
from octavo_runtime.server.generation.progress import Progress
from octavo_runtime.server.generation.refusal import refusal
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.http.errors import engine_failed, invalid
from octavo_runtime.server.http.streaming import whole_answer
from octavo_runtime.server.observe.prompt_log import log_prompt
from octavo_runtime.server.state import ServedModel, ServerState

# Inputs of one request that are in the engine at a time: enough to fill its steps, and others get their turn.
_AT_ONCE = 64


class EmbeddingRequest(BaseModel):
    """Strict: a field that nobody defines is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    input: Annotated[
        Prompts,
        at_most(MOST_INPUTS),
        Field(description=f"Text, token ids, or up to {MOST_INPUTS} of either."),
    ]
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="Numbers, or their little-endian float32 bytes. Default float."
    )
    dimensions: int | None = Field(None, description="The model's width, or nothing: embeddings cannot be shortened.")
    user: Text | None = Field(None, description="Without effect.")
    pooling: Pooling = Field("mean", description="Of the last hidden states of all tokens, or that of the last one.")
    normalize: bool = Field(True, description="Scale to length 1.")
    add_special_tokens: bool = Field(True, description="Those that the tokenizer puts around a text.")
    truncate_prompt_tokens: AtLeastOne | None = Field(
        None, description="Keep only that many of each input's last tokens."
    )
    priority: Priority = Field(0, description="Lower goes first, where the engine's scheduling policy is priority.")
    cache_salt: CacheSalt | None = Field(
        None, description="Requests share cached prefixes only with those of the same salt."
    )
    _nulls = null_is_absent


class Embedding(BaseModel):
    """One input's embedding: numbers, or base64 of their little-endian float32 bytes."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens of all inputs together."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The embeddings, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class _Item(msgspec.Struct):
    """An Embedding on its way out; its vector is JSON already."""

    object: str
    index: int
    embedding: msgspec.Raw


class _Items(msgspec.Struct):
    """An EmbeddingList on its way out."""

    object: str
    data: list[_Item]
    model: str
    usage: dict[str, int]


def router(state: ServerState) -> APIRouter:
    """The embeddings route of one server."""
    routes = APIRouter(tags=["embeddings"])

    @routes.post("/v1/embeddings", response_model=EmbeddingList)
    async def create_embeddings(body: EmbeddingRequest, request: Request) -> Response:
        """The embedding of each input, from the hidden states of the served model."""
        model = state.model_for(body.model)
        _check_dimensions(state, body.dimensions)
        prompts = await in_thread(_token_ids, model, body)
        for index, prompt in enumerate(prompts):
            check_prompt(model, prompt, _field(index, prompts), answered=False)
        return await whole_answer(state, request, _embeddings(state, model, body, prompts))

    return routes


def _check_dimensions(state: ServerState, dimensions: int | None) -> None:
    ready = state.engine.ready
    if dimensions is not None and ready is not None and dimensions != ready.hidden_size:
        rule = f"must be {ready.hidden_size}, the width of the model, or left out, got {dimensions}"
        raise invalid("dimensions", rule)


def _token_ids(model: ServedModel, body: EmbeddingRequest) -> list[list[int]]:
    """Of each input. Raises ApiError where one cannot fit the model, before its text is tokenised."""
    last, prompts = body.truncate_prompt_tokens, listed(body.input)
    for index, one in enumerate(prompts):
        if isinstance(one, str):
            check_text(model, len(one), _field(index, prompts), last)
    return [
        truncated(
            model.tokenizer.encode(one, add_special_tokens=body.add_special_tokens) if isinstance(one, str) else one,
            last,
        )
        for one in prompts
    ]


def _field(index: int, prompts: Sequence[object]) -> str:
    """The name of one input."""
    return "input" if len(prompts) == 1 else f"input.{index}"


async def _embeddings(
    state: ServerState, model: ServedModel, body: EmbeddingRequest, prompts: Sequence[list[int]]
) -> _Items:
    places = asyncio.Semaphore(_AT_ONCE)

    async def item(index: int) -> _Item:
        async with places:
            vector = await _embed(state, model, body, prompts[index])
        # Piece by piece as they come: all at once would hold up everybody's streams.
        return _Item("embedding", index, _as_json(vector, body.encoding_format or "float"))

    tasks = [asyncio.create_task(item(index)) for index in range(len(prompts))]
    try:
        data = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    tokens = sum(map(len, prompts))
    return _Items("list", data, body.model, {"prompt_tokens": tokens, "total_tokens": tokens})


async def _embed(state: ServerState, model: ServedModel, body: EmbeddingRequest, prompt: list[int]) -> bytes:
    """Little-endian float32. Raises ApiError; cancelling it aborts the request in the engine."""
    progress, outcome = Progress(state.metrics, len(prompt)), "aborted"
    progress.started()
    if state.log_prompts:
        log_prompt(model.tokenizer, prompt)
    params = PoolingParams(pooling=body.pooling, normalize=body.normalize)
    try:
        output = await state.engine.embed(
            uuid.uuid4().hex, prompt, params, priority=body.priority, cache_salt=body.cache_salt or ""
        )
        if output.error is not None:
            outcome = "rejected" if output.error.kind == "invalid" else "error"
            raise refusal(output.error, lambda _: "input")
        assert output.embedding is not None
        progress.embedded(output)
        outcome = "success"
        return output.embedding
    except EngineFailure as error:
        outcome = "error"
        raise engine_failed(str(error)) from None
    finally:
        progress.ended(outcome)


def _as_json(vector: bytes, encoding_format: Literal["float", "base64"]) -> msgspec.Raw:
    if encoding_format == "base64":
        return msgspec.Raw(b'"' + base64.b64encode(vector) + b'"')
    return msgspec.Raw(msgspec.json.encode(struct.unpack(f"<{len(vector) // 4}f", vector)))
