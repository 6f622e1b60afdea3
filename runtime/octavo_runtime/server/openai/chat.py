"""POST /v1/chat/completions: pieces as OpenAI's chat objects and chunks."""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec
from fastapi import APIRouter, Request, Response

from octavo_runtime.server.generation.chat_request import ChatCompletionRequest
from octavo_runtime.server.generation.generation import render
from octavo_runtime.server.generation.logprobs import prompt_logprobs
from octavo_runtime.server.generation.pieces import (
    ArgumentsDelta,
    Delta,
    ReasoningDelta,
    TextDelta,
    ToolCallStart,
    WholeAnswer,
)
from octavo_runtime.server.generation.token_logprobs import ChatLogprobs
from octavo_runtime.server.generation.turn import ChatTurn, TurnReader, begin, whole_answers
from octavo_runtime.server.generation.usage import Usage
from octavo_runtime.server.http.encoding import encode
from octavo_runtime.server.http.streaming import EventStream, whole_answer
from octavo_runtime.server.openai.chunks import (
    ChatAnswer,
    ChatChunkChoice,
    ChatCompletionChunk,
    ChatDelta,
    FunctionDelta,
    ToolCallDelta,
)
from octavo_runtime.server.openai.objects import (
    SYSTEM_FINGERPRINT,
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    FunctionCall,
    ToolCall,
)
from octavo_runtime.server.state import ServerState


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


async def complete(turn: ChatTurn) -> ChatCompletion:
    """The whole answer, but for the prompt's log-probabilities. Raises ApiError."""
    answers, usage = await whole_answers(turn)
    return _completion(turn, answers, usage)


async def _whole(turn: ChatTurn) -> ChatCompletion | msgspec.Raw:
    answer, params = await complete(turn), turn.generation.ask.params
    if params.logprobs is None and params.prompt_logprobs is None:
        return answer
    return await render([turn.generation], _scored, turn, answer)


def _completion(turn: ChatTurn, answers: Sequence[WholeAnswer], usage: Usage) -> ChatCompletion:
    return ChatCompletion(
        id=_new_id(),
        created=int(time.time()),
        model=turn.model.name,
        choices=[_choice(turn, answer) for answer in answers],
        usage=usage,
        system_fingerprint=SYSTEM_FINGERPRINT,
        prompt_token_ids=turn.generation.ask.prompt if turn.body.return_token_ids else None,
    )


def _scored(turn: ChatTurn, answer: ChatCompletion) -> msgspec.Raw:
    """An answer with log-probabilities, in JSON."""
    top, found = turn.generation.ask.params.prompt_logprobs, turn.generation.answers.prompt_logprobs or []
    scored = ChatAnswer(**{name: getattr(answer, name) for name in ChatAnswer.__struct_fields__})
    scored.prompt_logprobs = msgspec.UNSET if top is None else prompt_logprobs(turn.model.tokenizer, found, top)
    return msgspec.Raw(encode(scored))


def _choice(turn: ChatTurn, answer: WholeAnswer) -> ChatChoice:
    calls = [
        ToolCall(id=call.id, function=FunctionCall(name=call.name, arguments=call.arguments)) for call in answer.calls
    ]
    message = AssistantMessage(
        content=answer.text if answer.text or not (answer.reasoning or calls) else None,
        reasoning=answer.reasoning or None,
        reasoning_content=answer.reasoning or None,
        tool_calls=calls,
    )
    return ChatChoice(
        index=answer.index,
        message=message,
        logprobs=None if answer.logprobs is None else ChatLogprobs(content=answer.logprobs),
        finish_reason=answer.finish_reason,
        stop_reason=answer.stop_reason,
        token_ids=answer.token_ids if turn.body.return_token_ids else None,
    )


async def chunks(turn: ChatTurn) -> AsyncGenerator[ChatCompletionChunk, None]:
    """Of each answer the role first, then what comes and the reason of the end; and the usage where it is wanted.
    Raises ApiError; closing it aborts the answers."""
    body, generation = turn.body, turn.generation
    name, created, counted, reader = _new_id(), int(time.time()), body.wants_continuous_usage, TurnReader(turn)

    def chunk(choices: list[ChatChunkChoice], usage: Usage | None) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=name,
            created=created,
            model=turn.model.name,
            choices=choices,
            usage=usage,
            system_fingerprint=SYSTEM_FINGERPRINT,
        )

    async with aclosing(generation.deltas()) as outputs:
        async for output in outputs:
            index = output.index
            if reader.is_new(index):
                role = ChatDelta(role="assistant", content="")
                first = chunk([ChatChunkChoice(index=index, delta=role)], reader.usage() if counted else None)
                first.prompt_token_ids = generation.ask.prompt if body.return_token_ids else None
                yield first
            increment = reader.read(output)
            usage, reason = reader.usage() if counted else None, increment.finish_reason
            deltas = _chat_deltas(increment.deltas)
            logprobs = None if increment.logprobs is None else ChatLogprobs(content=increment.logprobs)
            token_ids = list(output.token_ids) if body.return_token_ids else None
            if not deltas and (token_ids or increment.logprobs):
                deltas = [ChatDelta(content="")]
            for delta in deltas:
                choice = ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, token_ids=token_ids)
                yield chunk([choice], usage)
                logprobs = token_ids = None  # with the first delta alone
            if reason is not None:
                stop = output.stop_reason
                choice = ChatChunkChoice(index=index, delta=ChatDelta(), finish_reason=reason, stop_reason=stop)
                yield chunk([choice], usage)
    if body.wants_usage:
        yield chunk([], reader.usage())


def _chat_deltas(deltas: Sequence[Delta]) -> list[ChatDelta]:
    """As few as keep the order: in each, reasoning comes before content, and content before calls."""
    made: list[ChatDelta] = []
    for delta in deltas:
        match delta:
            case TextDelta():
                if made and made[-1].tool_calls is None:
                    made[-1].content = (made[-1].content or "") + delta.text
                else:
                    made.append(ChatDelta(content=delta.text))
            case ReasoningDelta():
                made.append(ChatDelta(reasoning=delta.text, reasoning_content=delta.text))
            case ToolCallStart():
                function = FunctionDelta(name=delta.name, arguments="")
                _calls(made).append(ToolCallDelta(delta.call, function, id=delta.id, type="function"))
            case ArgumentsDelta():
                calls = _calls(made)
                if calls and calls[-1].index == delta.call:
                    calls[-1].function.arguments = (calls[-1].function.arguments or "") + delta.json
                else:
                    calls.append(ToolCallDelta(delta.call, FunctionDelta(arguments=delta.json)))
    return made


def _calls(made: list[ChatDelta]) -> list[ToolCallDelta]:
    """The calls of the last delta, which there is from then on."""
    if not made:
        made.append(ChatDelta())
    if (calls := made[-1].tool_calls) is None:
        calls = made[-1].tool_calls = []
    return calls


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
