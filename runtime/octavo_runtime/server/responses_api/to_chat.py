"""A Responses request as the chat request that means the same."""

from collections.abc import Sequence
from typing import Any

from octavo_runtime.server.field_names import FieldNames
from octavo_runtime.server.protocol import ChatCompletionRequest
from octavo_runtime.server.responses_api.items import (
    FunctionCallItem,
    FunctionCallOutputItem,
    MessageItem,
    ReasoningItem,
    TextPart,
)
from octavo_runtime.server.responses_api.request import FunctionTool, NamedFunction, ResponsesRequest, TextFormat

FIELD_NAMES: FieldNames = (
    (r"messages(\.\S+)?", "input"),
    (r"max_(completion_)?tokens", "max_output_tokens"),
    (r"response_format\.json_schema", "text.format"),
    (r"reasoning_effort", "reasoning.effort"),
    (r"response_format", "text.format"),
    (r"tools\.([0-9]+)\.function", r"tools.\1"),
    (r"tool_choice\.function", "tool_choice"),
    (r"logprobs", "include"),
)
"""Chat's names, as a client of this API knows them."""

_SAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "top_logprobs",
    "parallel_tool_calls",
    "priority",
    "cache_salt",
    "chat_template_kwargs",
)


def chat_request(body: ResponsesRequest) -> ChatCompletionRequest:
    """Raises pydantic.ValidationError, in chat's field names, where chat's rules forbid it."""
    given = {name: getattr(body, name) for name in _SAME if getattr(body, name) is not None}
    given |= {"model": body.model, "messages": _messages(body)}
    if body.max_output_tokens is not None:
        given["max_completion_tokens"] = body.max_output_tokens
    if body.wants_logprobs:
        given["logprobs"] = True
    if body.text is not None and body.text.format is not None:
        given["response_format"] = _response_format(body.text.format)
    if body.tools:
        given["tools"] = [{"type": "function", "function": _function(tool)} for tool in body.tools]
    if isinstance(body.tool_choice, NamedFunction):
        given["tool_choice"] = {"type": "function", "function": {"name": body.tool_choice.name}}
    elif body.tool_choice is not None:
        given["tool_choice"] = body.tool_choice
    if body.reasoning is not None and body.reasoning.effort is not None:
        given["reasoning_effort"] = body.reasoning.effort
    if body.stream:
        given |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    return ChatCompletionRequest.model_validate(given)


def _messages(body: ResponsesRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if body.instructions is not None:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        return [*messages, {"role": "user", "content": body.input}]
    reasoning: dict[str, str] = {}  # of the assistant's next message
    for item in body.input:
        match item:
            case ReasoningItem():
                reasoning = {"reasoning": "".join(part.text for part in item.content)} if item.content else {}
                continue
            case MessageItem(role="assistant"):
                messages.append({"role": "assistant", "content": _content(item.content), **reasoning})
            case MessageItem():
                messages.append({"role": item.role, "content": _content(item.content)})
            case FunctionCallOutputItem():
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _content(item.output)})
            case FunctionCallItem():
                # One chat message holds what the model said and all that it called.
                if not messages or messages[-1]["role"] != "assistant" or reasoning:
                    messages.append({"role": "assistant", "content": None, **reasoning})
                messages[-1].setdefault("tool_calls", []).append(_call(item))
        reasoning = {}
    return messages


def _call(item: FunctionCallItem) -> dict[str, Any]:
    return {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}


def _content(content: str | Sequence[TextPart]) -> str | list[dict[str, str]]:
    return content if isinstance(content, str) else [{"type": "text", "text": part.text} for part in content]


def _function(tool: FunctionTool) -> dict[str, Any]:
    fields = {name: getattr(tool, name) for name in ("name", "description", "parameters", "strict")}
    return {name: value for name, value in fields.items() if value is not None}


def _response_format(form: TextFormat) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    return {"type": "json_schema", "json_schema": form.model_dump(exclude={"type"})}
