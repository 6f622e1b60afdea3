"""A Messages request as the chat request that means the same."""

import json
from collections.abc import Sequence
from typing import Any

from octavo_runtime.server.anthropic.blocks import (
    AssistantMessage,
    Messages,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from octavo_runtime.server.anthropic.request import CountTokensRequest, MessagesRequest, Tool, ToolChoice
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest, chat_request
from octavo_runtime.server.tools.tool import longer_names

_LONGEST_NAME = 128  # of a tool
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def field_name(body: CountTokensRequest, field: str) -> str:
    """What the client that sent `body` calls a field of the chat request made of it. Both by their paths."""
    match field.split("."):
        case ["messages" | "continue_final_message", *_]:
            return "messages"
        case ["stop", *rest]:
            path = ["stop_sequences", *rest]
        case ["max_completion_tokens", *rest]:
            path = ["max_tokens", *rest]
        case ["response_format", "json_schema", *rest] | ["response_format", *rest]:
            path = ["output_config", "format", *rest]
        case ["reasoning_effort", *rest]:
            path = ["output_config", "effort", *rest]
        case ["tool_choice", "function", *rest]:
            path = ["tool_choice", *rest]
        case ["tools", number, "function", "parameters", *rest]:
            path = [_place(body, number), "input_schema", *rest]
        case ["tools", number, "function", *rest]:
            path = [_place(body, number), *rest]
        case path:
            pass
    return ".".join(path)


def _place(body: CountTokensRequest, number: str) -> str:
    """Where one of chat's tools stands in `body`."""
    places = [place for place, tool in enumerate(body.tools or ()) if tool is not None]
    return f"tools.{places[int(number)]}"


def to_chat(body: CountTokensRequest) -> ChatCompletionRequest:
    """Raises ApiError, in chat's field names, where chat's rules forbid it."""
    given: dict[str, Any] = {"model": body.model, "messages": _messages(body)}
    if body.messages[-1].role == "assistant":
        given["continue_final_message"] = True
    if tools := [{"type": "function", "function": _function(tool)} for tool in body.tools or () if tool is not None]:
        given["tools"] = tools
    if body.tool_choice is not None:
        given |= _tool_choice(body.tool_choice)
    if body.thinking is not None and body.thinking.type != "adaptive":
        given["chat_template_kwargs"] = {"enable_thinking": body.thinking.type == "enabled"}
    if body.output_config is not None and body.output_config.effort is not None:
        given["reasoning_effort"] = body.output_config.effort
    if body.output_config is not None and body.output_config.format is not None:
        schema = {"name": "answer", "schema": body.output_config.format.schema_}
        given["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(body, MessagesRequest):
        given |= _generation(body)
    return chat_request(given, longer_names(_LONGEST_NAME))


def _generation(body: MessagesRequest) -> dict[str, Any]:
    given: dict[str, Any] = {"max_completion_tokens": body.max_tokens}
    for name in ("temperature", "top_p", "top_k"):
        if getattr(body, name) is not None:
            given[name] = getattr(body, name)
    if body.stop_sequences is not None:
        given["stop"] = body.stop_sequences
    if body.stream:
        given |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    return given


def _function(tool: Tool) -> dict[str, Any]:
    fields = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
        "strict": tool.strict,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _tool_choice(choice: ToolChoice) -> dict[str, Any]:
    given: dict[str, Any] = {"tool_choice": _TOOL_CHOICES.get(choice.type)}
    if choice.type == "tool":
        given["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    if choice.disable_parallel_tool_use is not None:
        given["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return given


def _messages(body: CountTokensRequest) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if body.system is not None:
        messages.append({"role": "system", "content": _text(body.system)})
    for message in _joined(body.messages):
        match message:
            case UserMessage():
                messages += _from_user(message)
            case AssistantMessage():
                messages.append(_from_assistant(message))
            case _:
                messages.append({"role": "system", "content": _text(message.content)})
    return messages


def _joined(messages: Messages) -> Messages:
    """Messages of one role in a row as one, as the API promises."""
    joined: Messages = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            content: list[Any] = [*_blocks(joined[-1].content), *_blocks(message.content)]
            joined[-1] = joined[-1].model_copy(update={"content": content})
        else:
            joined.append(message)
    return joined


def _blocks(content: str | Sequence[Any]) -> Sequence[Any]:
    return [TextBlock(type="text", text=content)] if isinstance(content, str) else content


def _from_user(message: UserMessage) -> list[dict[str, Any]]:
    """The results of tools, each a message of its own right behind the calls, then what the user said."""
    blocks = _blocks(message.content)
    results = [
        {"role": "tool", "tool_call_id": block.tool_use_id, "content": _text(block.content)}
        for block in blocks
        if isinstance(block, ToolResultBlock)
    ]
    said = [block for block in blocks if isinstance(block, TextBlock)]
    return [*results, {"role": "user", "content": _text(said)}] if said or not results else results


def _from_assistant(message: AssistantMessage) -> dict[str, Any]:
    blocks = _blocks(message.content)
    given: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(block.text for block in blocks if isinstance(block, TextBlock)),
    }
    calls = [_call(block) for block in blocks if isinstance(block, ToolUseBlock)]
    if calls:
        given |= {"content": given["content"] or None, "tool_calls": calls}
    if thoughts := [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]:
        given["reasoning"] = "".join(thoughts)
    return given


def _call(block: ToolUseBlock) -> dict[str, Any]:
    function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
    return {"id": block.id, "type": "function", "function": function}


def _text(content: str | Sequence[TextBlock]) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content)
