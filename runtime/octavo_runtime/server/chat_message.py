"""One message of a conversation, as clients send it and as chat templates read it."""

import contextlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from octavo_runtime.server.json_list import ListOf
from octavo_runtime.server.text import Text, valid_value
from octavo_runtime.server.tools.tool import FunctionName

# SDKs send an answer back as they got it, with null for what it did not have.
_MAY_BE_EMPTY = (
    "name",
    "refusal",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "audio",
    "annotations",
    "reasoning",
    "reasoning_content",
)


class TextPart(BaseModel):
    """One part of a message's content."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: Text


class CalledFunction(BaseModel):
    """arguments: JSON text, as the model wrote it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: FunctionName
    arguments: Text


class MadeToolCall(BaseModel):
    """A call that an assistant made earlier."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction

    @model_validator(mode="before")
    @classmethod
    def _without_index(cls, value: Any) -> Any:
        # Clients that put a stream's pieces together leave it in.
        return {name: given for name, given in value.items() if name != "index"} if isinstance(value, dict) else value

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
    reasoning_content: what an assistant thought; it is for the chat template to show it or not."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    name: Text | None = None
    tool_calls: ListOf[MadeToolCall] | None = None
    tool_call_id: Text | None = Field(None, validate_default=True)
    reasoning: Text | None = None
    reasoning_content: Text | None = None
    content: Text | ListOf[TextPart] | None = Field(None, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: given for name, given in value.items() if name not in _MAY_BE_EMPTY or given not in (None, [])}

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
    def _empty_beside_calls(cls, value: Any, found: ValidationInfo) -> Any:
        if value is None and not found.data.get("tool_calls", True):
            raise ValueError("must be a string or a list of parts; null is only for an assistant's tool_calls")
        return value

    def for_template(self) -> dict[str, Any]:
        """The message as chat templates read it."""
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": content}
        if self.name is not None:
            message["name"] = self.name
        if self.tool_calls:
            message["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        reasoning = self.reasoning if self.reasoning is not None else self.reasoning_content
        if reasoning is not None:
            message |= {"reasoning": reasoning, "reasoning_content": reasoning}
        return message
