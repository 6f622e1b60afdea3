"""One message of a conversation, as clients send it and as chat templates read it."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.nulls import null_is_absent
from octavo_runtime.server.fields.rule import broken_rule
from octavo_runtime.server.fields.text import Text, valid_value
from octavo_runtime.server.tools.tool import FunctionName

# About how a message is kept, never about what it says.
_HINTS = ("cache_control",)


class TextPart(BaseModel):
    """One part of a message's content. What else clients note in it, such as cache_control, is ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["text"]
    text: Text


class CalledFunction(BaseModel):
    """arguments: JSON text, as the model wrote it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: FunctionName
    arguments: Text


class MadeToolCall(BaseModel):
    """A call that an assistant made earlier. What else clients note in it, such as what they parsed, is ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction
    _nulls = null_is_absent

    def for_template(self) -> dict[str, Any]:
        """The call with its arguments as an object; as text where the model wrote no JSON."""
        arguments: Any = self.function.arguments
        with contextlib.suppress(ValueError, RecursionError):
            arguments = valid_value(json.loads(arguments or "{}"))
        return {
            "id": self.id,
            "type": self.type,
            "function": {"name": self.function.name, "arguments": arguments},
        }


class ChatMessage(BaseModel):
    """One message of a conversation. tool_call_id: of the call that a tool's message answers. reasoning, or
    reasoning_content: what an assistant thought; it is for the chat template to show it or not. refusal, function_call
    and audio would be parts of what was said, and are not supported. What else clients note in a message is for the
    chat template, if that names it; see `require_known_fields`."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    name: Text | None = None
    tool_calls: ListOf[MadeToolCall] | None = None
    tool_call_id: Text | None = Field(None, validate_default=True)
    reasoning: Text | None = None
    reasoning_content: Text | None = None
    refusal: None = None
    function_call: None = None
    audio: None = None
    content: Text | ListOf[TextPart] | None = Field(None, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_fields(cls, value: Any) -> Any:
        # SDKs send an answer back as they got it, with null or an empty list for what it did not have.
        if not isinstance(value, dict):
            return value
        return {
            name: given
            for name, given in value.items()
            if name not in _HINTS and given is not None and (given != [] or name == "content")
        }

    @field_validator("tool_calls", "reasoning", "reasoning_content")
    @classmethod
    def _of_an_assistant(cls, value: Any, found: ValidationInfo) -> Any:
        if found.data.get("role", "assistant") != "assistant":
            raise ValueError(f"only allowed with role assistant, not {found.data['role']}")
        return value

    @field_validator("tool_call_id")
    @classmethod
    def _of_a_tool(cls, value: str | None, found: ValidationInfo) -> str | None:
        if "role" in found.data and (value is not None) != (found.data["role"] == "tool"):
            raise ValueError(f"required with role tool and allowed with no other, the role is {found.data['role']}")
        return value

    @field_validator("content")
    @classmethod
    def _empty_beside_other_parts(cls, value: Any, found: ValidationInfo) -> Any:
        said = found.data.get("tool_calls", True) or found.data.get("reasoning") or found.data.get("reasoning_content")
        if value is None and not said:
            raise ValueError(
                "must be a string or a list of parts; null is only for an assistant's tool_calls or reasoning"
            )
        return value

    def for_template(self, template: str = "") -> dict[str, Any]:
        """The message as chat templates read it. template: its source; of what clients note in a message, that which it
        names is part of it."""
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        if content is None and not self.tool_calls:
            content = ""  # beside reasoning; a template would write null as a word
        message: dict[str, Any] = {name: noted for name, noted in self.notes.items() if name in template}
        message |= {"role": "system" if self.role == "developer" else self.role, "content": content}
        if self.name is not None:
            message["name"] = self.name
        if self.tool_calls:
            message["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        reasoning = self.reasoning if self.reasoning is not None else self.reasoning_content
        if reasoning is not None:
            message |= {"reasoning": reasoning, "reasoning_content": reasoning}
            if "message.thinking" in template:
                # Harmony's templates refuse text beside both a call and what was thought.
                said = [reasoning, content] if self.tool_calls and content else [reasoning]
                message |= {"thinking": "\n\n".join(said), "content": None if self.tool_calls else content}
        return message

    @property
    def notes(self) -> dict[str, Any]:
        """Fields that nobody here knows."""
        return self.model_extra or {}


def require_known_fields(messages: Sequence[ChatMessage]) -> None:
    """ValueError where the last message says in a field that nobody knows what it asks for. In those before it, and in
    what an assistant or a tool said, such a field is a client's note in its history, and asks for nothing."""
    last = messages[-1]
    if last.role not in ("assistant", "tool"):
        for name in last.notes:
            raise broken_rule(f"messages.{len(messages) - 1}.{name}", "unknown field")
