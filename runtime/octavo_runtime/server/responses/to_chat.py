"""A Responses request as the chat request that means the same."""

from collections.abc import Sequence
from typing import Any

from octavo_runtime.server.generation.chat_request import ChatCompletionRequest, chat_request
from octavo_runtime.server.responses.items import (
    CallOutputItem,
    CustomCallItem,
    FunctionCallItem,
    MessageItem,
    ReasoningItem,
    TextPart,
)
from octavo_runtime.server.responses.request import ResponsesRequest, TextFormat
from octavo_runtime.server.responses.tools import (
    AllowedTools,
    NamedTool,
    Offered,
    allowed,
    chat_function,
    chat_name,
    custom_arguments,
    offered,
)
from octavo_runtime.server.tools.tool import longer_names

_LONGEST_NAME = 128  # a namespace's name and a function's
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


def field_name(body: ResponsesRequest, field: str) -> str:
    """What the client that sent `body` calls a field of the chat request made of it. Both by their paths."""
    match field.split("."):
        case ["messages", *_]:
            return "input"
        case ["max_completion_tokens" | "max_tokens", *rest]:
            path = ["max_output_tokens", *rest]
        case ["response_format", "json_schema", *rest] | ["response_format", *rest]:
            path = ["text", "format", *rest]
        case ["reasoning_effort", *rest]:
            path = ["reasoning", "effort", *rest]
        case ["tool_choice", "function", *rest]:
            path = ["tool_choice", *rest]
        case ["logprobs"]:
            path = ["include"]
        case ["tools", number, "function", *rest]:
            path = [_tools(body)[int(number)].place, *rest]
        case path:
            pass
    return ".".join(path)


def to_chat(body: ResponsesRequest) -> ChatCompletionRequest:
    """Raises ApiError, in chat's field names, where chat's rules forbid it."""
    given = {name: getattr(body, name) for name in _SAME if getattr(body, name) is not None}
    given |= {"model": body.model, "messages": _messages(body)}
    if body.max_output_tokens is not None:
        given["max_completion_tokens"] = body.max_output_tokens
    if body.wants_logprobs:
        given["logprobs"] = True
    if body.text is not None and body.text.format is not None:
        given["response_format"] = _response_format(body.text.format)
    if tools := _tools(body):
        given["tools"] = [{"type": "function", "function": chat_function(one)} for one in tools]
    match body.tool_choice:
        case NamedTool(name=name, namespace=namespace):
            given["tool_choice"] = {"type": "function", "function": {"name": chat_name(name, namespace)}}
        case AllowedTools(mode=mode):
            given["tool_choice"] = mode
        case str(choice):
            given["tool_choice"] = choice
    if body.reasoning is not None and body.reasoning.effort is not None:
        given["reasoning_effort"] = body.reasoning.effort
    if body.stream:
        given |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    return chat_request(given, longer_names(_LONGEST_NAME))


def _tools(body: ResponsesRequest) -> list[Offered]:
    tools = list(offered(body.tools or ()))
    return allowed(body.tool_choice, tools) if isinstance(body.tool_choice, AllowedTools) else tools


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
            case CallOutputItem():
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": _content(item.output)})
            case FunctionCallItem() | CustomCallItem():
                # One chat message holds what the model said and all that it called.
                if not messages or messages[-1]["role"] != "assistant" or reasoning:
                    messages.append({"role": "assistant", "content": None, **reasoning})
                messages[-1].setdefault("tool_calls", []).append(_call(item))
        reasoning = {}
    return messages


def _call(item: FunctionCallItem | CustomCallItem) -> dict[str, Any]:
    arguments = custom_arguments(item.input) if isinstance(item, CustomCallItem) else item.arguments
    function = {"name": chat_name(item.name, item.namespace), "arguments": arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _content(content: str | Sequence[TextPart]) -> str | list[dict[str, str]]:
    return content if isinstance(content, str) else [{"type": "text", "text": part.text} for part in content]


def _response_format(form: TextFormat) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    return {"type": "json_schema", "json_schema": form.model_dump(exclude={"type"})}
