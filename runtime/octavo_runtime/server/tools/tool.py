"""The functions that a chat request offers, and which of them the answer must call. OpenAI's objects."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PrivateAttr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from octavo_runtime.server.fields.text import Text, valid_value

MOST_TOOLS = 128

_LONGEST_NAME = 64


def longer_names(longest: int) -> dict[str, int]:
    """The validation context in which names of functions may be longer than OpenAI's."""
    return {"longest_name": longest}


def _is_name(name: str, found: ValidationInfo) -> str:
    longest = (found.context or {}).get("longest_name", _LONGEST_NAME)
    if re.fullmatch(rf"[a-zA-Z0-9_-]{{1,{longest}}}", name) is None:
        raise ValueError(f"must have 1 to {longest} letters, digits, _ and -")
    return name


FunctionName = Annotated[
    str,
    AfterValidator(_is_name),
    WithJsonSchema({"type": "string", "pattern": f"^[a-zA-Z0-9_-]{{1,{_LONGEST_NAME}}}$"}),
]
"""OpenAI's rule, but for other APIs whose names may be longer."""


class FunctionDefinition(BaseModel):
    """A function. parameters: the JSON schema of its arguments, an object; without it there are none. strict is for a
    call that must be made; see docs/api.md."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @field_validator("parameters")
    @classmethod
    def _of_an_object(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value and value.get("type", "object") != "object":
            raise ValueError('must have the type "object"')
        return value

    def argument_schema(self) -> dict[str, Any]:
        """The JSON schema that arguments keep to."""
        if self.parameters is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return {"type": "object", **self.parameters}


class Tool(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    function: FunctionDefinition
    _sent: dict[str, Any] = PrivateAttr()

    @model_validator(mode="wrap")
    @classmethod
    def _keep_as_sent(cls, value: Any, check: ValidatorFunctionWrapHandler) -> "Tool":
        tool: Tool = check(value)
        if isinstance(value, dict):
            tool._sent = valid_value(value)
        return tool

    def as_sent(self) -> dict[str, Any]:
        """The tool with its fields in the client's order, which shows in the prompt."""
        return self._sent


class NamedFunction(BaseModel):
    """A function's name alone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: FunctionName


class NamedToolChoice(BaseModel):
    """The answer must call this function."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice
