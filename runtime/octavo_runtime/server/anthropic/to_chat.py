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
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest
from octavo_runtime.server.generation.field_names import FieldNames
from octavo_runtime.server.tools.tool import longer_names

_FIELD_NAMES: FieldNames = (
    (r"messages(\.\S+)?|continue_final_message", "messages"),
    (r"stop", "stop_sequences"),
    (r"max_completion_tokens", "max_tokens"),
    (r"response_format\.json_schema\.schema", "output_config.format.schema"),
    (r"response_format", "output_config.format"),
    (r"reasoning_effort", "output_config.effort"),
    (r"tool_choice\.function", "tool_choice"),
)
_LONGEST_NAME = 128  # of a tool
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def field_names(body: CountTokensRequest) -> FieldNames:
    """Chat's names, as the client that sent `body` knows them."""
    places = [number for number, tool in enumerate(body.tools or ()) if tool is not None]
    tools = []
    for number, place in enumerate(places):
        tools.append((rf"tools\.{number}\.function\.parameters", f"tools.{place}.input_schema"))
        tools.append((rf"tools\.{number}\.function", f"tools.{place}"))
    return *tools, *_FIELD_NAMES


def chat_request(body: CountTokensRequest) -> ChatCompletionRequest:
    """Raises pydantic.ValidationError, in chat's field names, where chat's rules forbid it."""
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
    return ChatCompletionRequest.model_validate(given, context=longer_names(_LONGEST_NAME))


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
