"""What clients may send to POST /v1/responses (platform.openai.com/docs/api-reference/responses)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octavo_runtime.server.answer_form import Schema
from octavo_runtime.server.generation_request import MOST_TOP_LOGPROBS
from octavo_runtime.server.json_list import ListOf
from octavo_runtime.server.responses_api.items import Input
from octavo_runtime.server.text import Text
from octavo_runtime.server.unsupported import without_unsupported

_LOGPROBS = "message.output_text.logprobs"

_WITHOUT_EFFECT = frozenset(
    {
        "user",
        "safety_identifier",
        "store",
        "max_tool_calls",  # counts calls of tools that OpenAI runs itself
        "prompt_cache_key",
        "prompt_cache_retention",
        "stream_options",  # include_obfuscation alone, which only pads events
    }
)
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "background": (None, False),
    "conversation": (None,),
    "context_management": (None, []),
    "moderation": (None,),
    "previous_response_id": (None,),
    "prompt": (None,),
    "prompt_cache_options": (None,),
    "service_tier": (None, "auto", "default"),
    "truncation": (None, "disabled"),
}


def _missing(value: object) -> bool:
    return value is None


class TextFormat(BaseModel):
    """The form that the answer must have. Every answer keeps to the schema, whatever `strict` says."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Text | None = Field(None, exclude_if=_missing)
    description: Text | None = Field(None, exclude_if=_missing)
    strict: bool | None = Field(None, exclude_if=_missing)
    schema_: Schema | None = Field(None, alias="schema", exclude_if=_missing)

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> "TextFormat":
        for field, value in (("name", self.name), ("schema", self.schema_)):
            if self.type == "json_schema" and value is None:
                raise ValueError(f"{field} is required with type json_schema")
            if self.type != "json_schema" and value is not None:
                raise ValueError(f"{field} cannot be combined with type {self.type}")
        return self


class TextConfig(BaseModel):
    """How the answer's text is to look. verbosity: medium, OpenAI's default, alone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningConfig(BaseModel):
    """effort reaches the chat templates that know it. Summaries, of which there are none, may be left to the server."""

    model_config = ConfigDict(extra="forbid", strict=True)

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto"] | None = None
    generate_summary: Literal["auto"] | None = None
    context: Literal["auto"] | None = None
    mode: Literal["standard"] | None = None


class FunctionTool(BaseModel):
    """A function that the model may call. parameters: the JSON schema of its arguments."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    name: Text
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class NamedFunction(BaseModel):
    """The one function that must be called."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    name: Text


class ResponsesRequest(BaseModel):
    """POST /v1/responses: what needs no state on the server. Strict, as chat requests are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    input: Input
    instructions: Text | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    include: ListOf[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = Field(
        None, description="reasoning.encrypted_content is accepted without effect: reasoning comes in the open."
    )
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    tools: ListOf[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[Text, Text] | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: Text | ListOf[Text] | None = None
    priority: int | None = None
    cache_salt: Text | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_unsupported(cls, value: Any) -> Any:
        return without_unsupported(value, _WITHOUT_EFFECT, _NEUTRAL) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _fields_agree(self) -> "ResponsesRequest":
        if self.top_logprobs and not self.wants_logprobs:
            raise ValueError(f"top_logprobs: only allowed when include has {_LOGPROBS}, got {self.top_logprobs}")
        return self

    @property
    def wants_logprobs(self) -> bool:
        """Whether each token's log-probability comes with the text."""
        return _LOGPROBS in (self.include or ())
