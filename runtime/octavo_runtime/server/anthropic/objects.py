"""What clients of POST /v1/messages get."""

import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from octavo_runtime.server.generation.pieces import AnswerFinishReason, WholeAnswer
from octavo_runtime.server.generation.usage import Usage
from octavo_runtime.server.tools import arguments

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextContent(BaseModel):
    """Text that the model said."""

    type: Literal["text"] = "text"
    text: str


class ThinkingContent(BaseModel):
    """How the model came to its answer. Nobody here signs it."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: str = ""


class ToolUseContent(BaseModel):
    """A tool that the model wants used."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


Content = Annotated[TextContent | ThinkingContent | ToolUseContent, Field(discriminator="type")]


class MessageUsage(BaseModel):
    """Token counts of a request. input_tokens: without those that the prefix cache held, cache_read_input_tokens."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int


class MessageObject(BaseModel):
    """The answer. stop_sequence: the one that ended it."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Content]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(BaseModel):
    """How many tokens a prompt has."""

    input_tokens: int


def new_id() -> str:
    """The id of a message."""
    return f"msg_{uuid.uuid4().hex}"


def tool_use_id(call_id: str) -> str:
    """A call's id in Anthropic's form; as it is where the model's chat template wants a form of its own."""
    return f"toolu_{call_id.removeprefix('call_')}" if call_id.startswith("call_") else call_id


def message_of(model: str, answer: WholeAnswer, usage: Usage) -> MessageObject:
    """A whole answer. model: the name that the client asked for."""
    content = list[Content]()
    if answer.reasoning:
        content.append(ThinkingContent(thinking=answer.reasoning))
    if answer.text:
        content.append(TextContent(text=answer.text))
    # An input cannot be half there: a call that was cut is left out, or a client would make it with nothing.
    content += [
        ToolUseContent(id=tool_use_id(call.id), name=call.name, input=given)
        for call in answer.calls
        if (given := arguments.whole(call.arguments)) is not None
    ]
    return MessageObject(
        id=new_id(),
        model=model,
        content=content,
        stop_reason=stop_reason(answer.finish_reason, answer.stop_reason),
        stop_sequence=stop_sequence(answer.finish_reason, answer.stop_reason),
        usage=message_usage(usage),
    )


def stop_reason(finish_reason: AnswerFinishReason, stop: str | int | None) -> StopReason:
    """Why an answer ended. stop: the string or token id that ended it."""
    match finish_reason:
        case "tool_calls":
            return "tool_use"
        case "length":
            return "max_tokens"
    return "stop_sequence" if isinstance(stop, str) else "end_turn"


def stop_sequence(finish_reason: AnswerFinishReason, stop: str | int | None) -> str | None:
    """The string that is the reason why an answer ended, if one is."""
    return stop if isinstance(stop, str) and finish_reason == "stop" else None


def message_usage(usage: Usage) -> MessageUsage:
    """Chat's counts as this API divides them."""
    cached = usage.prompt_tokens_details.cached_tokens
    return MessageUsage(
        input_tokens=usage.prompt_tokens - cached,
        cache_read_input_tokens=cached,
        output_tokens=usage.completion_tokens,
    )
