"""What an answer is made of, one kind of thing at a time; each API writes it in its own objects."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from octavo_runtime.protocol.messages import FinishReason
from octavo_runtime.server.generation.token_logprobs import ChosenTokenLogprob
from octavo_runtime.server.generation.usage import Usage

AnswerFinishReason = FinishReason | Literal["tool_calls"]
"""Why an answer ended. tool_calls: it stopped, by itself or at a stop string, behind calls that are all whole."""


class Start(msgspec.Struct):
    """The first piece of a single answer. usage: of the prompt."""

    usage: Usage


class TextDelta(msgspec.Struct):
    """More text of the answer, with the log-probabilities of its tokens where they are told with the text."""

    text: str
    logprobs: Sequence[ChosenTokenLogprob] = ()


class ReasoningDelta(msgspec.Struct):
    """More text of the reasoning."""

    text: str


class ToolCallStart(msgspec.Struct):
    """A call begins; its arguments follow. call: its number in the answer."""

    call: int
    id: str
    name: str


class ArgumentsDelta(msgspec.Struct):
    """More of a call's arguments, as JSON text."""

    call: int
    json: str


class Finish(msgspec.Struct):
    """The last piece of a single answer. stop_reason: the stop string or token id that ended it."""

    finish_reason: AnswerFinishReason
    stop_reason: str | int | None
    usage: Usage


Delta = TextDelta | ReasoningDelta | ToolCallStart | ArgumentsDelta
Piece = Start | Delta | Finish


class Increment(msgspec.Struct):
    """What one output of the engine brings to an answer. logprobs: of the tokens whose text is in it; None where they
    were not asked for. finish_reason: where the answer ends here."""

    deltas: list[Delta]
    logprobs: list[ChosenTokenLogprob] | None
    finish_reason: AnswerFinishReason | None


class Call(msgspec.Struct):
    """A whole call, or what there is of one that was cut."""

    id: str
    name: str
    arguments: str


class WholeAnswer(msgspec.Struct):
    """One answer, from its beginning to its end."""

    index: int
    text: str
    reasoning: str
    calls: list[Call]
    logprobs: list[ChosenTokenLogprob] | None
    finish_reason: AnswerFinishReason
    stop_reason: str | int | None
    token_ids: list[int]


def joined(deltas: Sequence[Delta]) -> tuple[str, str, list[Call]]:
    """The text, the reasoning and the calls that deltas come to."""
    text, reasoning, calls, arguments = list[str](), list[str](), list[ToolCallStart](), list[list[str]]()
    for delta in deltas:
        match delta:
            case TextDelta():
                text.append(delta.text)
            case ReasoningDelta():
                reasoning.append(delta.text)
            case ToolCallStart():
                calls.append(delta)
                arguments.append([])
            case ArgumentsDelta():
                arguments[-1].append(delta.json)
    whole = [Call(call.id, call.name, "".join(parts)) for call, parts in zip(calls, arguments, strict=True)]
    return "".join(text), "".join(reasoning), whole
