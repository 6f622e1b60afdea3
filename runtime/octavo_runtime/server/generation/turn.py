"""One turn of a conversation: a chat request that has passed every check, and its answers, whole or as they grow."""

import dataclasses
import functools
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from octavo_runtime.protocol.messages import FinishReason
from octavo_runtime.server.generation.chat_prompt import ChatPrompt, chat_form_field, chat_params, chat_prompt
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest
from octavo_runtime.server.generation.generation import Generation, check_prompt_logprobs, make_ask, render, run, usage
from octavo_runtime.server.generation.logprobs import TokenTrail, chat_logprobs
from octavo_runtime.server.generation.pieces import (
    AnswerFinishReason,
    Finish,
    Growth,
    Piece,
    ReasoningDelta,
    Start,
    TextDelta,
    WholeAnswer,
    joined,
)
from octavo_runtime.server.generation.reader import AnswerReader
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.token_logprobs import ChosenTokenLogprob
from octavo_runtime.server.generation.usage import Usage
from octavo_runtime.server.reasoning.splitter import ReasoningSpan, ReasoningSplitter
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.server.tools.call_parser import CallParser
from octavo_runtime.text.answers import Answer
from octavo_runtime.text.answers import Delta as EngineDelta


@dataclasses.dataclass(frozen=True)
class ChatTurn:
    """A chat request that has passed every check, and the answers to it in the making."""

    model: ServedModel
    body: ChatCompletionRequest
    prompt: ChatPrompt
    generation: Generation
    readers: dict[int, AnswerReader] = dataclasses.field(default_factory=dict)

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


async def whole_answers(turn: ChatTurn) -> tuple[list[WholeAnswer], Usage]:
    """The answers that count, whole, and the counts. Raises ApiError."""
    await run([turn.generation])
    return await render([turn.generation], _whole_answers, turn)


async def growths(turn: ChatTurn) -> AsyncGenerator[Growth, None]:
    """That each answer begins, with nothing in it, and then what the engine's outputs bring. Raises ApiError; closing
    it aborts the answers."""
    scores: dict[int, _Scores] = {}
    async with aclosing(turn.generation.deltas()) as deltas:
        async for delta in deltas:
            index, reason = delta.index, delta.finish_reason
            if index not in scores:
                scores[index], turn.readers[index] = _Scores(turn), turn.reader()
                yield Growth(index, [], (), None, None, None)
            reader = turn.readers[index]
            grown = reader.add(delta.text, delta.token_ids, finished=reason is not None)
            ended = None if reason is None else _finish_reason(reason, reader)
            yield Growth(index, grown, delta.token_ids, scores[index].add(delta), ended, delta.stop_reason)


async def pieces(turn: ChatTurn) -> AsyncGenerator[Piece, None]:
    """The pieces of the turn's one answer. Text comes with the log-probabilities of its tokens; those of reasoning are
    left out. Raises ApiError; closing it aborts the answer."""
    begun, ended = False, list[Growth]()
    scores: list[ChosenTokenLogprob] = []  # of tokens whose text is still to come
    async with aclosing(growths(turn)) as grown:
        async for growth in grown:
            if not begun:
                begun = True
                yield Start(turn_usage(turn))
            scores += growth.logprobs or ()
            for delta in growth.deltas:
                yield TextDelta(delta.text, scores) if isinstance(delta, TextDelta) else delta
                if isinstance(delta, TextDelta | ReasoningDelta):
                    scores = []
            if growth.finish_reason is not None:
                ended.append(growth)
    [last] = ended
    assert last.finish_reason is not None
    yield Finish(last.finish_reason, last.stop_reason, turn_usage(turn))


def turn_usage(turn: ChatTurn) -> Usage:
    """The counts so far of a turn whose answers grow."""
    return _usage(turn.generation, turn.readers.values())


def _whole_answers(turn: ChatTurn) -> tuple[list[WholeAnswer], Usage]:
    return [_whole_answer(turn, answer) for answer in turn.generation.answers.best()], _whole_usage(turn)


def _whole_answer(turn: ChatTurn, answer: Answer) -> WholeAnswer:
    assert answer.finish_reason is not None
    reader = turn.reader()
    text, reasoning, calls = joined(reader.add(answer.text, answer.token_ids, finished=True))
    reason, logprobs = _finish_reason(answer.finish_reason, reader), _Scores(turn).add(answer)
    return WholeAnswer(answer.index, text, reasoning, calls, logprobs, reason, answer.stop_reason, answer.token_ids)


def _whole_usage(turn: ChatTurn) -> Usage:
    """Of all answers, those of best_of that do not count too."""
    readers = []
    for answer in turn.generation.answers.all if turn.prompt.may_reason else ():
        readers.append(turn.reader())
        readers[-1].add(answer.text, answer.token_ids, finished=True)
    return _usage(turn.generation, readers)


def _usage(generation: Generation, readers: Iterable[AnswerReader]) -> Usage:
    return usage([generation], reasoning_tokens=sum(reader.reasoning_tokens for reader in readers))


def _finish_reason(reason: FinishReason, reader: AnswerReader) -> AnswerFinishReason:
    return "tool_calls" if reason == "stop" and reader.called else reason


class _Scores:
    """The log-probabilities of one answer, piece by piece; None throughout where they were not asked for."""

    def __init__(self, turn: ChatTurn) -> None:
        params = turn.generation.ask.params
        self._tokenizer = turn.model.tokenizer
        self._wanted = params.logprobs is not None
        self._trail = TokenTrail(turn.model.tokenizer, skip_special_tokens=params.skip_special_tokens)

    def add(self, grown: Answer | EngineDelta) -> list[ChosenTokenLogprob] | None:
        if not self._wanted:
            return None
        trail = self._trail.add(grown.token_ids, grown.logprobs or [], grown.text, grown.finish_reason)
        return chat_logprobs(self._tokenizer, trail).content
