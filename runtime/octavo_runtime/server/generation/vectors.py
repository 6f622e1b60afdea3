"""What a model makes of texts that it only reads: each one's vector or numbers, from the engine."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from octavo_runtime.engine_process.client import EngineFailure
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.server.generation.progress import Progress
from octavo_runtime.server.generation.refusal import refusal
from octavo_runtime.server.http.errors import engine_failed
from octavo_runtime.server.observe.prompt_log import log_prompt
from octavo_runtime.server.state import ServedModel, ServerState

# Texts of one request that are in the engine at a time: enough to fill its steps, and others get their turn.
_AT_ONCE = 64

_Shaped = TypeVar("_Shaped")


class Reading(NamedTuple):
    """One text, or pair, that is read. tokens: at least one."""

    tokens: list[int]
    params: PoolingParams


class Place(NamedTuple):
    """Where the texts of one request stand among others; see messages.Add. field: the request's own that holds them."""

    priority: int
    cache_salt: str
    field: str


async def read_all(
    state: ServerState,
    model: ServedModel,
    readings: Sequence[Reading],
    place: Place,
    shape: Callable[[int, bytes], _Shaped],
) -> list[_Shaped]:
    """What `shape` makes of each reading's number and vector, little-endian float32, piece by piece as they come: all
    at once would hold up everybody's streams. Raises ApiError; cancelling it aborts the requests in the engine."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(index: int) -> _Shaped:
        async with places:
            vector = await _read(state, model, readings[index], place)
        return shape(index, vector)

    tasks = [asyncio.create_task(one(index)) for index in range(len(readings))]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(state: ServerState, model: ServedModel, reading: Reading, place: Place) -> bytes:
    progress, outcome = Progress(state.metrics, len(reading.tokens)), "aborted"
    progress.started()
    if state.log_prompts:
        log_prompt(model.tokenizer, reading.tokens)
    try:
        output = await state.engine.embed(
            uuid.uuid4().hex, reading.tokens, reading.params, priority=place.priority, cache_salt=place.cache_salt
        )
        if output.error is not None:
            outcome = "rejected" if output.error.kind == "invalid" else "error"
            raise refusal(output.error, lambda _: place.field)
        assert output.embedding is not None
        progress.embedded(output)
        outcome = "success"
        return output.embedding
    except EngineFailure as error:
        outcome = "error"
        raise engine_failed(str(error)) from None
    finally:
        progress.ended(outcome)
