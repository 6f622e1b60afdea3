"""POST /v1/embeddings: pooled hidden states of the served model (platform.openai.com/docs/api-reference/embeddings)."""

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from octavo_runtime.protocol.pooling import Pooling
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.server.fields.nulls import null_is_absent
from octavo_runtime.server.fields.prompts import listed
from octavo_runtime.server.fields.text import Text
from octavo_runtime.server.generation.bounds import (
    TRUNCATES,
    AtLeastOne,
    CacheSalt,
    Inputs,
    Priority,
    TruncateTo,
    check_prompt,
    check_text,
    cut_to,
    read_tokens,
)
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.vectors import Place, Reading, read_all
from octavo_runtime.server.http.errors import invalid
from octavo_runtime.server.http.streaming import whole_answer
from octavo_runtime.server.state import ServedModel, ServerState


class EmbeddingRequest(BaseModel):
    """Strict: a field that nobody defines is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Default: the served one.")
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="Numbers, or their little-endian float32 bytes. Default float."
    )
    dimensions: AtLeastOne | None = Field(
        None, description="Of a model that was made to embed, so many of each vector's first numbers."
    )
    user: Text | None = Field(None, description="Without effect.")
    prompt_name: Annotated[Text, Field(max_length=256)] | None = Field(
        None, description="Which of the model's prompts stands in front of each text; empty for none. Default: its own."
    )
    pooling: Pooling | None = Field(
        None, description="Of the tokens' last hidden states. Default: as the model has it, else mean."
    )
    normalize: bool | None = Field(None, description="Scale to length 1. Default: as the model has it, else true.")
    add_special_tokens: bool = Field(True, description="Those that the tokenizer puts around a text.")
    truncate_prompt_tokens: TruncateTo | None = Field(None, description=TRUNCATES)
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
        model = state.model_for(body.model, "generate", "embed")
        _check_dimensions(state, model, body.dimensions)
        prompts = await in_thread(_token_ids, model, body)
        for index, prompt in enumerate(prompts):
            check_prompt(model, prompt, _field(index, prompts), answered=False)
        return await whole_answer(state, request, _embeddings(state, model, body, prompts))

    return routes


def _check_dimensions(state: ServerState, model: ServedModel, dimensions: int | None) -> None:
    ready, task = state.engine.ready, model.task
    if dimensions is None or ready is None or dimensions == ready.hidden_size:
        return
    width = ready.hidden_size
    if task.lengths and dimensions not in task.lengths:
        rule = f"must be {width} or one of {', '.join(map(str, task.lengths))}, which the model was trained for"
    elif not task.shortens:
        rule = f"must be {width}, the width of the model, or left out"
    elif dimensions > width:
        rule = f"must be at most {width}, the width of the model"
    else:
        return
    raise invalid("dimensions", f"{rule}, got {dimensions}")


def _token_ids(model: ServedModel, body: EmbeddingRequest) -> list[list[int]]:
    """Of each input. Raises ApiError where one cannot fit the model, before its text is tokenised."""
    most, prompts = cut_to(model, body.truncate_prompt_tokens), listed(body.input)
    front = _prompt(model, body.prompt_name)
    for index, one in enumerate(prompts):
        if isinstance(one, str):
            check_text(model, len(one), _field(index, prompts), most)
    return [read_tokens(model, one, body.add_special_tokens, most, front) for one in prompts]


def _prompt(model: ServedModel, name: str | None) -> str:
    """The text that stands in front of each input."""
    prompts, chosen = model.task.prompts, model.task.default_prompt if name is None else name
    if chosen and chosen not in prompts:
        known = ", ".join(prompts) or "none"
        raise invalid("prompt_name", f"must be one of the model's prompts ({known}), got {chosen[:100]!r}")
    return prompts[chosen] if chosen else ""


def _field(index: int, prompts: Sequence[object]) -> str:
    """The name of one input."""
    return "input" if len(prompts) == 1 else f"input.{index}"


async def _embeddings(
    state: ServerState, model: ServedModel, body: EmbeddingRequest, prompts: Sequence[list[int]]
) -> _Items:
    params = PoolingParams(pooling=body.pooling, normalize=body.normalize, dimensions=body.dimensions)

    def item(index: int, vector: bytes) -> _Item:
        return _Item("embedding", index, _as_json(vector, body.encoding_format or "float"))

    place = Place(body.priority, body.cache_salt or "", "input")
    data = await read_all(state, model, [Reading(prompt, params) for prompt in prompts], place, item)
    tokens = sum(map(len, prompts))
    return _Items("list", data, model.name, {"prompt_tokens": tokens, "total_tokens": tokens})


def _as_json(vector: bytes, encoding_format: Literal["float", "base64"]) -> msgspec.Raw:
    if encoding_format == "base64":
        return msgspec.Raw(b'"' + base64.b64encode(vector) + b'"')
    return msgspec.Raw(msgspec.json.encode(struct.unpack(f"<{len(vector) // 4}f", vector)))
