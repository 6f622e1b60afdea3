"""POST /v1/chat/completions."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from octavo_runtime.sampling_params import SamplingParams
from octavo_runtime.server.generation import answer, check_prompt, collect, usage
from octavo_runtime.server.protocol import ChatCompletionRequest
from octavo_runtime.server.responses import (
    SYSTEM_FINGERPRINT,
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
)
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.server.streaming import EventStream, whole_answer


def router(state: ServerState) -> APIRouter:
    """The chat route of one server."""
    routes = APIRouter(tags=["chat"])

    @routes.post("/v1/chat/completions", response_model=ChatCompletion)
    async def create_chat_completion(body: ChatCompletionRequest, request: Request) -> Response:
        """The model's next message in a conversation."""
        model = state.model_for(body.model)
        params = body.sampling_params(default_max_tokens=None)
        messages = [message.for_template() for message in body.messages]
        prompt = await asyncio.to_thread(model.template.encode, messages, model.tokenizer)
        check_prompt(model, prompt, params.max_tokens, "messages")
        if body.stream:
            return EventStream(state, _chunks(state, model, body, prompt, params))
        return await whole_answer(state, request, _completion(state, model, body, prompt, params))

    return routes


async def _completion(
    state: ServerState, model: ServedModel, body: ChatCompletionRequest, prompt: list[int], params: SamplingParams
) -> ChatCompletion:
    [done] = await collect(state, model, [prompt], params)
    message = AssistantMessage(content=done.text)
    return ChatCompletion(
        id=_new_id(),
        created=int(time.time()),
        model=body.model,
        choices=[ChatChoice(message=message, finish_reason=done.finish_reason)],
        usage=usage([prompt], done.tokens),
        system_fingerprint=SYSTEM_FINGERPRINT,
    )


async def _chunks(
    state: ServerState, model: ServedModel, body: ChatCompletionRequest, prompt: list[int], params: SamplingParams
) -> AsyncGenerator[ChatCompletionChunk, None]:
    """The role first, then text as it comes, the reason of the end, and the usage where it is wanted."""
    frame = ChatCompletionChunk(
        id=_new_id(), created=int(time.time()), model=body.model, choices=[], system_fingerprint=SYSTEM_FINGERPRINT
    )

    def chunk(choice: ChatChunkChoice) -> ChatCompletionChunk:
        return frame.model_copy(update={"choices": [choice]})

    tokens = 0
    async with aclosing(answer(state, model, prompt, params)) as deltas:
        async for delta in deltas:
            if tokens == 0:
                yield chunk(ChatChunkChoice(index=0, delta={"role": "assistant", "content": ""}))
            tokens += delta.tokens
            if delta.text:
                yield chunk(ChatChunkChoice(index=0, delta={"content": delta.text}))
            if delta.finish_reason:
                yield chunk(ChatChunkChoice(index=0, delta={}, finish_reason=delta.finish_reason))
    if body.wants_usage:
        yield frame.model_copy(update={"usage": usage([prompt], tokens)})


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
