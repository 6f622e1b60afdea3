"""One turn of a conversation: a chat request that has passed every check, and its answers, whole or as they grow."""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from octavo_runtime.protocol.messages import FinishReason
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.generation.answer_form import AnswerForm
from octavo_runtime.server.generation.bounds import check_prompt_logprobs
from octavo_runtime.server.generation.chat_prompt import ChatPrompt, chat_form_field, chat_params, chat_prompt
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest
from octavo_runtime.server.generation.generation import Generation, make_ask, render, run, usage
from octavo_runtime.server.generation.logprobs import TokenTrail, chat_logprobs
from octavo_runtime.server.generation.pieces import (
    AnswerFinishReason,
    Finish,
    Increment,
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
from octavo_runtime.server.tools.channel_parser import ChannelParser, ChannelSpan
from octavo_runtime.server.tools.event import Parser
from octavo_runtime.server.tools.parsers import parser_of
from octavo_runtime.text.answers import CompletionOutput
from octavo_runtime.text.answers import Delta as EngineDelta
from octavo_runtime.text.detokenizer import Preamble


@dataclass(frozen=True)
class ChatTurn:
    """A chat request that has passed every check, and the answers to it in the making."""

    model: ServedModel
    body: ChatCompletionRequest
    prompt: ChatPrompt
    generation: Generation

    def reader(self) -> AnswerReader:
        """Reads one of the answers."""
        body, style, params = self.body, self.model.style, self.generation.ask.params
        splitter = None
        if self.prompt.may_reason and style.thinking is not None:
            splitter = ReasoningSplitter(style.thinking, opened=self.prompt.reasoning_open)
        return AnswerReader(
            self.model.tokenizer,
            splitter,
            self._parser(),
            skip_special_tokens=params.skip_special_tokens,
            parallel=body.parallel_tool_calls is not False,
            show_reasoning=body.include_reasoning,
            id_length=None if style.calls is None else style.calls.id_length,
        )

    def _parser(self) -> Parser | None:
        style, forced = self.model.style, bool(self.body.forced_tools)
        functions = {tool.function.name: tool.function.argument_schema() for tool in self.body.offered_tools}
        if forced or self.generation.ask.params.structured_outputs is not None:  # a grammar writes the answer
            return CallParser(style.calls.written, functions, forced=forced) if functions and style.calls else None
        if style.channels:
            return ChannelParser(functions if style.calls else (), in_content=self.prompt.in_message)
        return parser_of(style.calls, functions) if functions and style.calls else None


async def begin(state: ServerState, body: ChatCompletionRequest) -> ChatTurn:
    """The turn that a request asks for; nothing runs yet. Raises ApiError or InvalidParameter."""
    model = state.model_for(body.model, "generate")
    form, params, prompt = await in_thread(_prepared, model, body)
    preamble: Callable[[], Preamble] | None = None
    if prompt.may_reason:
        thinking, opened = model.style.thinking, prompt.reasoning_open
        preamble = ChannelSpan if thinking is None else partial(ReasoningSpan, thinking, opened=opened)
    form_field = partial(chat_form_field, body, form)
    ask = make_ask(model, body, prompt.token_ids, "messages", params, form_field, preamble)
    check_prompt_logprobs(params.prompt_logprobs, len(ask.prompt), "prompt_logprobs")
    return ChatTurn(model, body, prompt, Generation(state, model, ask))


async def whole_answers(turn: ChatTurn) -> tuple[list[WholeAnswer], Usage]:
    """The answers that count, whole, and the counts. Raises ApiError."""
    await run([turn.generation])
    return await render([turn.generation], _whole_answers, turn)


class TurnReader:
    """Reads the answers to one turn as they grow."""

    def __init__(self, turn: ChatTurn) -> None:
        self._turn = turn
        self._readers: dict[int, AnswerReader] = {}
        self._scores: dict[int, _Scores] = {}

    def is_new(self, index: int) -> bool:
        """Whether nothing of this answer has been read."""
        return index not in self._readers

    def read(self, delta: EngineDelta) -> Increment:
        """What one output of the engine brings to its answer."""
        index, reason = delta.index, delta.finish_reason
        if index not in self._readers:
            self._readers[index], self._scores[index] = self._turn.reader(), _Scores(self._turn)
        reader = self._readers[index]
        deltas = reader.add(delta.text, delta.token_ids, finished=reason is not None)
        ended = None if reason is None else _finish_reason(reason, reader)
        return Increment(deltas, self._scores[index].add(delta), ended)

    def usage(self) -> Usage:
        """The counts so far, of all answers together."""
        return _usage(self._turn, self._readers.values())


async def pieces(turn: ChatTurn) -> AsyncGenerator[Piece, None]:
    """The pieces of the turn's one answer. Text comes with the log-probabilities of its tokens; those of reasoning are
    left out. Raises ApiError; closing it aborts the answer."""
    reader, ended = TurnReader(turn), list[Finish]()
    scores: list[ChosenTokenLogprob] = []  # of tokens whose text is still to come
    async with aclosing(turn.generation.deltas()) as outputs:
        async for output in outputs:
            if reader.is_new(output.index):
                yield Start(reader.usage())
            increment = reader.read(output)
            scores += increment.logprobs or ()
            for delta in increment.deltas:
                yield TextDelta(delta.text, scores) if isinstance(delta, TextDelta) else delta
                if isinstance(delta, TextDelta | ReasoningDelta):
                    scores = []
            if increment.finish_reason is not None:
                ended.append(Finish(increment.finish_reason, output.stop_reason, reader.usage()))
    [finish] = ended
    yield finish


def _prepared(model: ServedModel, body: ChatCompletionRequest) -> tuple[AnswerForm | None, SamplingParams, ChatPrompt]:
    form = body.answer_form()
    return form, chat_params(model, body, form), chat_prompt(model, body, form)


def _whole_answers(turn: ChatTurn) -> tuple[list[WholeAnswer], Usage]:
    return [_whole_answer(turn, answer) for answer in turn.generation.answers.best()], _whole_usage(turn)


def _whole_answer(turn: ChatTurn, answer: CompletionOutput) -> WholeAnswer:
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
    return _usage(turn, readers)


def _usage(turn: ChatTurn, readers: Iterable[AnswerReader]) -> Usage:
    return usage([turn.generation], reasoning_tokens=sum(reader.reasoning_tokens for reader in readers))


def _finish_reason(reason: FinishReason, reader: AnswerReader) -> AnswerFinishReason:
    return "tool_calls" if reason == "stop" and reader.called else reason


class _Scores:
    """The log-probabilities of one answer, piece by piece; None throughout where they were not asked for."""

    def __init__(self, turn: ChatTurn) -> None:
        params = turn.generation.ask.params
        self._tokenizer = turn.model.tokenizer
        self._wanted = params.logprobs is not None
        self._trail = TokenTrail(turn.model.tokenizer, skip_special_tokens=params.skip_special_tokens)

    def add(self, grown: CompletionOutput | EngineDelta) -> list[ChosenTokenLogprob] | None:
        if not self._wanted:
            return None
        trail = self._trail.add(grown.token_ids, grown.logprobs or [], grown.text, grown.finish_reason)
        return chat_logprobs(self._tokenizer, trail).content
