"""What clients may send to POST /v1/messages (docs.anthropic.com/en/api/messages)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octavo_runtime.server.anthropic.blocks import Messages, TextBlocks
from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.nulls import without_nulls
from octavo_runtime.server.fields.text import Text
from octavo_runtime.server.fields.unsupported import without_unsupported
from octavo_runtime.server.generation import wishes
from octavo_runtime.server.generation.answer_form import Schema
from octavo_runtime.server.generation.bounds import AtLeastOne
from octavo_runtime.server.generation.wishes import check_number, set_aside, without_server_tools
from octavo_runtime.server.tools.tool import MOST_TOOLS

_WITHOUT_EFFECT = frozenset(
    {"metadata", "cache_control", "diagnostics", "inference_geo", "user_profile_id", "workspace_id"}
)
_TOOL_WITHOUT_EFFECT = frozenset({"cache_control", "eager_input_streaming"})
_TOOL_NEUTRAL: Mapping[str, tuple[Any, ...]] = {"type": ("custom",)}
# Fields in which null is a value, and not absence.
_VALUES = frozenset({"input", "input_schema", "schema", "metadata"})


class Tool(BaseModel):
    """A tool that the client runs. input_schema: the JSON schema of its input."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Text
    description: Text | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_unsupported(cls, value: Any) -> Any:
        return without_unsupported(value, _TOOL_WITHOUT_EFFECT, _TOOL_NEUTRAL) if isinstance(value, dict) else value


class ToolChoice(BaseModel):
    """Whether the model may, must or must not use tools; name: with type tool, which one it must use."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["auto", "any", "tool", "none"]
    name: Text | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _name_with_its_type(self) -> "ToolChoice":
        if (self.name is not None) != (self.type == "tool"):
            raise ValueError(f"name is required with type tool and allowed with no other, the type is {self.type}")
        return self


class Thinking(BaseModel):
    """Whether the model is to think first, for chat templates that let it be chosen. budget_tokens is a wish that no
    model here can be told: max_tokens bounds thinking and answer together."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1)] | None = None


class OutputFormat(BaseModel):
    """The JSON schema that the answer must keep to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["json_schema"]
    schema_: Schema = Field(alias="schema")


class OutputConfig(BaseModel):
    """The form of the answer. effort reaches the chat templates that know it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: OutputFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class CountTokensRequest(BaseModel):
    """POST /v1/messages/count_tokens: a conversation, and all that is a part of its prompt. What would change the
    answer and is not supported, or that nobody defines, is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    messages: Messages
    system: Text | TextBlocks | None = None
    tools: ListOf[Tool | None] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_unsupported(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        check_number("tools", value.get("tools"), MOST_TOOLS)
        given = without_unsupported(without_nulls(value, _VALUES), _WITHOUT_EFFECT, {})
        return without_server_tools(set_aside(given, wishes.MESSAGES), wishes.TOOLS_OF_ANTHROPICS_SERVERS)


class MessagesRequest(CountTokensRequest):
    """POST /v1/messages."""

    max_tokens: AtLeastOne
    stream: bool | None = None
    stop_sequences: ListOf[Text] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
