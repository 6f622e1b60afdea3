"""POST /v1/completions."""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec
from fastapi import APIRouter, Request, Response

from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.generation.answer_schema import adapted_form
from octavo_runtime.server.generation.bounds import check_prompt_logprobs, check_text
from octavo_runtime.server.generation.chat_request import CompletionRequest
from octavo_runtime.server.generation.generation import Ask, Generation, make_ask, render, run, side_by_side, usage
from octavo_runtime.server.generation.logprobs import TokenTrail, completion_logprobs, place_prompt, prompt_logprobs
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.usage import Usage
from octavo_runtime.server.http.encoding import encode
from octavo_runtime.server.http.streaming import EventStream, whole_answer
from octavo_runtime.server.openai.chunks import CompletionChunk, CompletionChunkChoice
from octavo_runtime.server.openai.objects import SYSTEM_FINGERPRINT, Completion
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.text.answers import CompletionOutput, Delta

_DEFAULT_MAX_TOKENS = 16  # OpenAI's


def router(state: ServerState) -> APIRouter:
    """The completions route of one server."""
    routes = APIRouter(tags=["completions"])

    @routes.post("/v1/completions", response_model=Completion)
    async def create_completion(body: CompletionRequest, request: Request) -> Response:
        """How the model goes on from each prompt; several prompts run side by side."""
        model = state.model_for(body.model, "generate")
        form = body.answer_form()
        params = body.sampling_params(_DEFAULT_MAX_TOKENS, model.defaults, form)
        if form is not None and form.output.json is not None:
            await in_thread(adapted_form, form)
        form_field = "structured_outputs" if form is None else form.field
        prompts = [await _token_ids(model, body, prompt) for prompt in body.prompts()]
        asks = [make_ask(model, body, prompt, "prompt", params, lambda _: form_field) for prompt in prompts]
        _check_prompt_logprobs(body, params, asks)
        generations = [Generation(state, model, ask) for ask in asks]
        if body.stream:
            return EventStream(state, _chunks(model, body, generations))
        return await whole_answer(state, request, _whole(model, body, generations))

    return routes


async def _token_ids(model: ServedModel, body: CompletionRequest, prompt: str | list[int]) -> list[int]:
    if isinstance(prompt, list):
        return prompt
    check_text(model, len(prompt), "prompt", body.truncate_prompt_tokens)
    return await in_thread(model.tokenizer.encode, prompt, add_special_tokens=body.add_special_tokens)


def _check_prompt_logprobs(body: CompletionRequest, params: SamplingParams, asks: Sequence[Ask]) -> None:
    tokens = params.n * sum(len(ask.prompt) for ask in asks)
    field = "logprobs" if body.prompt_logprobs is None else "prompt_logprobs"
    check_prompt_logprobs(params.prompt_logprobs, tokens, field)


async def _whole(model: ServedModel, body: CompletionRequest, generations: Sequence[Generation]) -> msgspec.Raw:
    await run(generations)
    return await render(generations, _completion, model, body, generations)


def _completion(model: ServedModel, body: CompletionRequest, generations: Sequence[Generation]) -> msgspec.Raw:
    """A Completion in JSON."""
    choices = []
    for number, generation in enumerate(generations):
        for answer in generation.answers.best():
            choice = _Choice(model, body, generation, _index(number, generation, answer.index))
            choices.append(choice.piece(answer))
    made = CompletionChunk(
        id=_new_id(),
        created=int(time.time()),
        model=model.name,
        choices=choices,
        usage=_usage(body, generations),
        system_fingerprint=SYSTEM_FINGERPRINT,
    )
    return msgspec.Raw(encode(made))


async def _chunks(
    model: ServedModel, body: CompletionRequest, generations: Sequence[Generation]
) -> AsyncGenerator[CompletionChunk, None]:
    """Text as it comes, each piece with its choice's index, and the usage where it is wanted."""
    name, created, choices = _new_id(), int(time.time()), dict[int, _Choice]()

    def chunk(*pieces: CompletionChunkChoice, counted: bool) -> CompletionChunk:
        return CompletionChunk(
            id=name,
            created=created,
            model=model.name,
            choices=list(pieces),
            usage=_usage(body, generations) if counted else None,
            system_fingerprint=SYSTEM_FINGERPRINT,
        )

    async with aclosing(side_by_side(generations)) as deltas:
        async for number, delta in deltas:
            generation = generations[number]
            index = _index(number, generation, delta.index)
            if index not in choices:
                choices[index] = _Choice(model, body, generation, index)
            piece = choices[index].piece(delta)
            if piece.text or piece.finish_reason or piece.token_ids or (piece.logprobs and piece.logprobs.tokens):
                yield chunk(piece, counted=body.wants_continuous_usage)
    if body.wants_usage:
        yield chunk(counted=True)


class _Choice:
    """Makes the pieces of one choice; the first begins with the prompt where an echo is wanted."""

    def __init__(self, model: ServedModel, body: CompletionRequest, generation: Generation, index: int) -> None:
        self._tokenizer = model.tokenizer
        self._body = body
        self._generation = generation
        self._index = index
        skip = body.skip_special_tokens
        self._echo = model.tokenizer.decode(generation.ask.prompt, skip_special_tokens=skip) if body.echo else ""
        self._trail = TokenTrail(model.tokenizer, skip_special_tokens=skip, offset=len(self._echo))
        self._begun = False

    def piece(self, grown: CompletionOutput | Delta) -> CompletionChunkChoice:
        """What new tokens bring; nothing of them where only the prompt is wanted."""
        body = self._body
        if body.wants_prompt_alone:
            grown = CompletionOutput(grown.index, finish_reason="length")
        piece = CompletionChunkChoice(
            index=self._index, text=grown.text, finish_reason=grown.finish_reason, stop_reason=grown.stop_reason
        )
        placed = []
        if body.logprobs is not None:
            placed = self._trail.add(grown.token_ids, grown.logprobs or [], grown.text, grown.finish_reason)
        if body.return_token_ids:
            piece.token_ids = list(grown.token_ids)
        if not self._begun:
            self._begun = True
            ask, scores = self._generation.ask, self._generation.answers.prompt_logprobs or []
            piece.text = self._echo + grown.text
            if body.echo and body.logprobs is not None:
                skip = body.skip_special_tokens
                placed = [*place_prompt(self._tokenizer, ask.prompt, scores, skip_special_tokens=skip), *placed]
            if body.prompt_logprobs is not None:
                piece.prompt_logprobs = prompt_logprobs(self._tokenizer, scores, body.prompt_logprobs)
            if body.return_token_ids:
                piece.prompt_token_ids = ask.prompt
        if body.logprobs is not None:
            piece.logprobs = completion_logprobs(self._tokenizer, placed, body.logprobs)
        return piece


def _index(number: int, generation: Generation, answer: int) -> int:
    return number * generation.ask.params.n + answer


def _usage(body: CompletionRequest, generations: Sequence[Generation]) -> Usage:
    return usage(generations, 0 if body.wants_prompt_alone else None)


def _new_id() -> str:
    return f"cmpl-{uuid.uuid4().hex}"
