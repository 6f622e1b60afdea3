"""What clients may send to POST /v1/messages (docs.anthropic.com/en/api/messages)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octavo_runtime.server.answer_form import Schema
from octavo_runtime.server.json_list import ListOf
from octavo_runtime.server.messages_api.blocks import Messages, TextBlocks
from octavo_runtime.server.text import Text
from octavo_runtime.server.unsupported import without_unsupported

_WITHOUT_EFFECT = frozenset(
    {"metadata", "cache_control", "diagnostics", "inference_geo", "user_profile_id", "workspace_id"}
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "container": (None,),
    "context_management": (None,),
    "mcp_servers": (None, []),
    "service_tier": (None, "auto", "standard_only"),
    "speed": (None, "standard"),
}
_TOOL_WITHOUT_EFFECT = frozenset({"cache_control", "eager_input_streaming"})
_TOOL_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "allowed_callers": (None, ["direct"]),
    "defer_loading": (None, False),
    "input_examples": (None, []),
    "type": (None, "custom"),
}


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
    model here can be told: max_tokens bounds thinking and answer together. display: in the open."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    display: Literal["summarized"] | None = None


class OutputFormat(BaseModel):
    """The JSON schema that the answer must keep to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["json_schema"]
    schema_: Schema = Field(alias="schema")


class OutputConfig(BaseModel):
    """The form of the answer. effort reaches the chat templates that know it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: OutputFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh"] | None = None


class CountTokensRequest(BaseModel):
    """POST /v1/messages/count_tokens: a conversation, and all that is a part of its prompt. Strict, as chat requests
    are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    messages: Messages
    system: Text | TextBlocks | None = None
    tools: ListOf[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_unsupported(cls, value: Any) -> Any:
        return without_unsupported(value, _WITHOUT_EFFECT, _NEUTRAL) if isinstance(value, dict) else value


class MessagesRequest(CountTokensRequest):
    """POST /v1/messages."""

    max_tokens: Annotated[int, Field(ge=1)]
    stream: bool | None = None
    stop_sequences: ListOf[Text] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
