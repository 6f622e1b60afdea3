"""POST /v1/chat/completions."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from octavo_runtime.answers import Answer, Delta
from octavo_runtime.server.generation import Generation, make_ask, run, usage
from octavo_runtime.server.logprobs import TokenTrail, chat_logprobs, prompt_logprobs
from octavo_runtime.server.protocol import ChatCompletionRequest
from octavo_runtime.server.responses import (
    SYSTEM_FINGERPRINT,
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatLogprobs,
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
        generation = Generation(state, model, make_ask(model, body, prompt, params, "messages"))
        if body.stream:
            return EventStream(state, _chunks(model, body, generation))
        return await whole_answer(state, request, _completion(model, body, generation))

    return routes


async def _completion(model: ServedModel, body: ChatCompletionRequest, generation: Generation) -> ChatCompletion:
    await run([generation])
    answers, ask = generation.answers, generation.ask
    scores = None
    if ask.params.prompt_logprobs is not None:
        scores = prompt_logprobs(model.tokenizer, answers.prompt_logprobs or [], ask.params.prompt_logprobs)
    return ChatCompletion(
        id=_new_id(),
        created=int(time.time()),
        model=body.model,
        choices=[_choice(model, body, generation, answer) for answer in answers.best()],
        usage=usage([generation]),
        system_fingerprint=SYSTEM_FINGERPRINT,
        prompt_logprobs=scores,
        prompt_token_ids=ask.prompt if body.return_token_ids else None,
    )


def _choice(model: ServedModel, body: ChatCompletionRequest, generation: Generation, answer: Answer) -> ChatChoice:
    assert answer.finish_reason is not None
    scores = _Scores(model, generation)
    return ChatChoice(
        index=answer.index,
        message=AssistantMessage(content=answer.text),
        logprobs=scores.add(answer),
        finish_reason=answer.finish_reason,
        stop_reason=answer.stop_reason,
        token_ids=answer.token_ids if body.return_token_ids else None,
    )


async def _chunks(
    model: ServedModel, body: ChatCompletionRequest, generation: Generation
) -> AsyncGenerator[ChatCompletionChunk, None]:
    """Of each answer the role first, then text as it comes and the reason of the end; and the usage where it is
    wanted."""
    frame = ChatCompletionChunk(
        id=_new_id(), created=int(time.time()), model=body.model, choices=[], system_fingerprint=SYSTEM_FINGERPRINT
    )

    def chunk(choice: ChatChunkChoice) -> ChatCompletionChunk:
        return frame.model_copy(update={"choices": [choice]})

    scores: dict[int, _Scores] = {}
    async with aclosing(generation.deltas()) as deltas:
        async for delta in deltas:
            index = delta.index
            if index not in scores:
                scores[index] = _Scores(model, generation)
                first = chunk(ChatChunkChoice(index=index, delta={"role": "assistant", "content": ""}))
                first.prompt_token_ids = generation.ask.prompt if body.return_token_ids else None
                yield first
            logprobs = scores[index].add(delta)
            token_ids = list(delta.token_ids) if body.return_token_ids else None
            if delta.text or token_ids or (logprobs and logprobs.content):
                content = {"content": delta.text}
                yield chunk(ChatChunkChoice(index=index, delta=content, logprobs=logprobs, token_ids=token_ids))
            if delta.finish_reason:
                yield chunk(
                    ChatChunkChoice(
                        index=index, delta={}, finish_reason=delta.finish_reason, stop_reason=delta.stop_reason
                    )
                )
    if body.wants_usage:
        yield frame.model_copy(update={"usage": usage([generation])})


class _Scores:
    """The log-probabilities of one answer, piece by piece; None throughout where they were not asked for."""

    def __init__(self, model: ServedModel, generation: Generation) -> None:
        params = generation.ask.params
        self._tokenizer = model.tokenizer
        self._wanted = params.logprobs is not None
        self._trail = TokenTrail(model.tokenizer, skip_special_tokens=params.skip_special_tokens)

    def add(self, grown: Answer | Delta) -> ChatLogprobs | None:
        if not self._wanted:
            return None
        trail = self._trail.add(grown.token_ids, grown.logprobs or [], grown.text, grown.finish_reason)
        return chat_logprobs(self._tokenizer, trail)


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
