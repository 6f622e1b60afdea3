"""POST /v1/completions."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from octavo_runtime.sampling_params import SamplingParams
from octavo_runtime.server.generation import answers, check_prompt, collect, usage
from octavo_runtime.server.protocol import CompletionRequest
from octavo_runtime.server.responses import SYSTEM_FINGERPRINT, Completion, CompletionChoice
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.server.streaming import EventStream, whole_answer

_DEFAULT_MAX_TOKENS = 16  # OpenAI's


def router(state: ServerState) -> APIRouter:
    """The completions route of one server."""
    routes = APIRouter(tags=["completions"])

    @routes.post("/v1/completions", response_model=Completion)
    async def create_completion(body: CompletionRequest, request: Request) -> Response:
        """How the model goes on from each prompt; several prompts run side by side."""
        model = state.model_for(body.model)
        params = body.sampling_params(_DEFAULT_MAX_TOKENS)
        prompts = [await _token_ids(model, prompt) for prompt in body.prompts()]
        for prompt in prompts:
            check_prompt(model, prompt, body.max_tokens, "prompt")
        if body.stream:
            return EventStream(state, _chunks(state, model, body, prompts, params))
        return await whole_answer(state, request, _completion(state, model, body, prompts, params))

    return routes


async def _token_ids(model: ServedModel, prompt: str | list[int]) -> list[int]:
    if isinstance(prompt, list):
        return prompt
    return await asyncio.to_thread(model.tokenizer.encode, prompt, add_special_tokens=True)


async def _completion(
    state: ServerState, model: ServedModel, body: CompletionRequest, prompts: list[list[int]], params: SamplingParams
) -> Completion:
    done = await collect(state, model, prompts, params)
    choices = [
        CompletionChoice(index=index, text=one.text, finish_reason=one.finish_reason) for index, one in enumerate(done)
    ]
    frame = _frame(body)
    return frame.model_copy(update={"choices": choices, "usage": usage(prompts, sum(one.tokens for one in done))})


async def _chunks(
    state: ServerState, model: ServedModel, body: CompletionRequest, prompts: list[list[int]], params: SamplingParams
) -> AsyncGenerator[Completion, None]:
    """Text as it comes, each piece with its prompt's index, and the usage where it is wanted."""
    frame, tokens = _frame(body), 0
    async with aclosing(answers(state, model, prompts, params)) as deltas:
        async for index, delta in deltas:
            tokens += delta.tokens
            if delta.text or delta.finish_reason:
                choice = CompletionChoice(index=index, text=delta.text, finish_reason=delta.finish_reason)
                yield frame.model_copy(update={"choices": [choice]})
    if body.wants_usage:
        yield frame.model_copy(update={"usage": usage(prompts, tokens)})


def _frame(body: CompletionRequest) -> Completion:
    return Completion(
        id=f"cmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        choices=[],
        system_fingerprint=SYSTEM_FINGERPRINT,
    )
