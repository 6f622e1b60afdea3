"""POST /v1/chat/completions. Other endpoints that answer a conversation translate to `begin`, and from `complete` or
`chunks`."""

import dataclasses
import functools
import time
import uuid
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

import msgspec
from fastapi import APIRouter, Request, Response

from octavo_runtime.answers import Answer, Delta
from octavo_runtime.messages import FinishReason
from octavo_runtime.server.generation.chat_prompt import ChatPrompt, chat_form_field, chat_params, chat_prompt
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest
from octavo_runtime.server.generation.generation import Generation, check_prompt_logprobs, make_ask, render, run, usage
from octavo_runtime.server.generation.logprobs import TokenTrail, chat_logprobs, prompt_logprobs
from octavo_runtime.server.generation.reader import AnswerReader
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.http.encoding import encode
from octavo_runtime.server.http.streaming import EventStream, whole_answer
from octavo_runtime.server.openai.chunks import ChatAnswer, ChatChunkChoice, ChatCompletionChunk, ChatDelta
from octavo_runtime.server.openai.objects import (
    SYSTEM_FINGERPRINT,
    ChatChoice,
    ChatCompletion,
    ChatFinishReason,
    ChatLogprobs,
    Usage,
)
from octavo_runtime.server.reasoning.splitter import ReasoningSpan, ReasoningSplitter
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.server.tools.call_parser import CallParser


@dataclasses.dataclass(frozen=True)
class ChatTurn:
    """A chat request that has passed every check, and the answers to it in the making."""

    model: ServedModel
    body: ChatCompletionRequest
    prompt: ChatPrompt
    generation: Generation

    def reader(self) -> AnswerReader:
        """Reads one of the answers."""
        body, style, forced = self.body, self.model.style, bool(self.body.forced_tools)
        parser = None
        if body.offered_tools and style.calls is not None:
            names = {tool.function.name for tool in body.offered_tools}
            parser = CallParser(style.calls, names, forced=forced)
        return AnswerReader(
            self.model.tokenizer,
            ReasoningSplitter(opened=self.prompt.reasoning_open) if self.prompt.may_reason else None,
            parser,
            skip_special_tokens=self.generation.ask.params.skip_special_tokens,
            parallel=body.parallel_tool_calls is not False,
            show_reasoning=body.include_reasoning,
            id_length=None if style.calls is None else style.calls.id_length,
        )


def router(state: ServerState) -> APIRouter:
    """The chat route of one server."""
    routes = APIRouter(tags=["chat"])

    @routes.post("/v1/chat/completions", response_model=ChatCompletion)
    async def create_chat_completion(body: ChatCompletionRequest, request: Request) -> Response:
        """The model's next message in a conversation."""
        turn = await begin(state, body)
        if body.stream:
            return EventStream(state, chunks(turn))
        return await whole_answer(state, request, _whole(turn))

    return routes


async def begin(state: ServerState, body: ChatCompletionRequest) -> ChatTurn:
    """The turn that a request asks for; nothing runs yet. Raises ApiError or InvalidParameter."""
    model = state.model_for(body.model)
    params, prompt = await in_thread(lambda: (chat_params(model, body), chat_prompt(model, body)))
    ask = make_ask(model, body, prompt.token_ids, params, "messages")
    check_prompt_logprobs([ask], 1, "prompt_logprobs")
    preamble = functools.partial(ReasoningSpan, opened=prompt.reasoning_open) if prompt.may_reason else None
    form_field = functools.partial(chat_form_field, body)
    ask = dataclasses.replace(ask, form_field=form_field, preamble=preamble)
    return ChatTurn(model, body, prompt, Generation(state, model, ask))


async def complete(turn: ChatTurn) -> ChatCompletion:
    """The whole answer, but for the prompt's log-probabilities. Raises ApiError."""
    await run([turn.generation])
    return await render([turn.generation], _completion, turn)


async def _whole(turn: ChatTurn) -> ChatCompletion | msgspec.Raw:
    answer, params = await complete(turn), turn.generation.ask.params
    if params.logprobs is None and params.prompt_logprobs is None:
        return answer
    return await render([turn.generation], _scored, turn, answer)


def _completion(turn: ChatTurn) -> ChatCompletion:
    generation = turn.generation
    return ChatCompletion(
        id=_new_id(),
        created=int(time.time()),
        model=turn.body.model,
        choices=[_choice(turn, answer) for answer in generation.answers.best()],
        usage=_whole_usage(turn),
        system_fingerprint=SYSTEM_FINGERPRINT,
        prompt_token_ids=generation.ask.prompt if turn.body.return_token_ids else None,
    )


def _scored(turn: ChatTurn, answer: ChatCompletion) -> msgspec.Raw:
    """An answer with log-probabilities, in JSON."""
    top, found = turn.generation.ask.params.prompt_logprobs, turn.generation.answers.prompt_logprobs or []
    scored = ChatAnswer(**{name: getattr(answer, name) for name in ChatAnswer.__struct_fields__})
    scored.prompt_logprobs = msgspec.UNSET if top is None else prompt_logprobs(turn.model.tokenizer, found, top)
    return msgspec.Raw(encode(scored))


def _choice(turn: ChatTurn, answer: Answer) -> ChatChoice:
    assert answer.finish_reason is not None
    reader = turn.reader()
    message = reader.message(answer.text, answer.token_ids)
    return ChatChoice(
        index=answer.index,
        message=message,
        logprobs=_Scores(turn).add(answer),
        finish_reason=_finish_reason(answer.finish_reason, reader),
        stop_reason=answer.stop_reason,
        token_ids=answer.token_ids if turn.body.return_token_ids else None,
    )


def _whole_usage(turn: ChatTurn) -> Usage:
    """Of all answers, those of best_of that do not count too."""
    readers = []
    for answer in turn.generation.answers.all if turn.prompt.may_reason else ():
        readers.append(turn.reader())
        readers[-1].add(answer.text, answer.token_ids, finished=True)
    return _usage(turn.generation, readers)


def _usage(generation: Generation, readers: Iterable[AnswerReader]) -> Usage:
    return usage([generation], reasoning_tokens=sum(reader.reasoning_tokens for reader in readers))


async def chunks(turn: ChatTurn) -> AsyncGenerator[ChatCompletionChunk, None]:
    """Of each answer the role first, then what comes and the reason of the end; and the usage where it is wanted.
    Raises ApiError; closing it aborts the answers."""
    body, generation = turn.body, turn.generation
    name, created = _new_id(), int(time.time())
    readers: dict[int, AnswerReader] = {}
    scores: dict[int, _Scores] = {}

    def chunk(*choices: ChatChunkChoice, counted: bool = body.wants_continuous_usage) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=name,
            created=created,
            model=body.model,
            choices=list(choices),
            usage=_usage(generation, readers.values()) if counted else None,
            system_fingerprint=SYSTEM_FINGERPRINT,
        )

    async with aclosing(generation.deltas()) as deltas:
        async for delta in deltas:
            index, reason = delta.index, delta.finish_reason
            if index not in readers:
                readers[index], scores[index] = turn.reader(), _Scores(turn)
                first = chunk(ChatChunkChoice(index=index, delta=ChatDelta(role="assistant", content="")))
                first.prompt_token_ids = generation.ask.prompt if body.return_token_ids else None
                yield first
            grown = readers[index].add(delta.text, delta.token_ids, finished=reason is not None)
            logprobs = scores[index].add(delta)
            token_ids = list(delta.token_ids) if body.return_token_ids else None
            if not grown and (token_ids or (logprobs and logprobs.content)):
                grown = [ChatDelta(content="")]
            for part in grown:
                yield chunk(ChatChunkChoice(index=index, delta=part, logprobs=logprobs, token_ids=token_ids))
                logprobs = token_ids = None  # with the first part alone
            if reason is not None:
                ended = _finish_reason(reason, readers[index])
                yield chunk(
                    ChatChunkChoice(index=index, delta=ChatDelta(), finish_reason=ended, stop_reason=delta.stop_reason)
                )
    if body.wants_usage:
        yield chunk(counted=True)


def _finish_reason(reason: FinishReason, reader: AnswerReader) -> ChatFinishReason:
    return "tool_calls" if reason == "stop" and reader.called else reason


class _Scores:
    """The log-probabilities of one answer, piece by piece; None throughout where they were not asked for."""

    def __init__(self, turn: ChatTurn) -> None:
        params = turn.generation.ask.params
        self._tokenizer = turn.model.tokenizer
        self._wanted = params.logprobs is not None
        self._trail = TokenTrail(turn.model.tokenizer, skip_special_tokens=params.skip_special_tokens)

    def add(self, grown: Answer | Delta) -> ChatLogprobs | None:
        if not self._wanted:
            return None
        trail = self._trail.add(grown.token_ids, grown.logprobs or [], grown.text, grown.finish_reason)
        return chat_logprobs(self._tokenizer, trail)


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
