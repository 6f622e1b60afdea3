"""Tools told to a model whose chat template knows nothing of them: a system message, and calls and results as text."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from octavo_runtime.text.chat_template import Conversation, Message

_INTRODUCTION = """You can call functions to help with the user's request. These are the functions, one JSON object a \
line, inside <tools></tools>:
<tools>
{tools}
</tools>
To call a function, answer with a JSON object of its name and arguments inside <tool_call></tool_call>:
<tool_call>
{{"name": "the function's name", "arguments": {{"an argument's name": "its value"}}}}
</tool_call>
The function's result comes back inside <tool_response></tool_response>."""


def as_text(conversation: Conversation) -> Conversation:
    """The same conversation with its tools in the first system message, each call in its message's content, and each
    tool's message as a user's."""
    messages = [_as_text(message) for message in _merged(conversation.messages)]
    if conversation.tools:
        told = _introduction(conversation.tools)
        if messages and messages[0]["role"] == "system":
            first, *messages = messages
            told = f"{first['content']}\n\n{told}"
        messages = [{"role": "system", "content": told}, *messages]
    return dataclasses.replace(conversation, messages=messages, tools=None)


def _introduction(tools: Sequence[Mapping[str, Any]]) -> str:
    return _INTRODUCTION.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


def _merged(messages: Sequence[Message]) -> list[Message]:
    """Results of parallel calls in one message: many templates want user and assistant to take turns."""
    merged: list[Message] = []
    for message in messages:
        if message["role"] == "tool":
            content = f"<tool_response>\n{message['content']}\n</tool_response>"
            if merged and merged[-1]["role"] == "tool":
                merged[-1] = {"role": "tool", "content": f"{merged[-1]['content']}\n{content}"}
                continue
            message = {"role": "tool", "content": content}
        merged.append(message)
    return merged


def _as_text(message: Message) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": message["content"]}
    if not message.get("tool_calls"):
        return message
    said = [message["content"]] if message["content"] else []
    for call in message["tool_calls"]:
        function = call["function"]
        made = {"name": function["name"], "arguments": function["arguments"]}
        said.append(f"<tool_call>\n{json.dumps(made, ensure_ascii=False)}\n</tool_call>")
    kept = {key: value for key, value in message.items() if key not in ("tool_calls", "content")}
    return {**kept, "content": "\n".join(said)}
