"""What clients may send to POST /v1/responses (platform.openai.com/docs/api-reference/responses)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.nulls import is_null, without_nulls
from octavo_runtime.server.fields.rule import broken_rule
from octavo_runtime.server.fields.text import Text, valid_value
from octavo_runtime.server.fields.unsupported import without_unsupported
from octavo_runtime.server.generation import wishes
from octavo_runtime.server.generation.answer_form import Schema
from octavo_runtime.server.generation.bounds import MOST_TOP_LOGPROBS, AtLeastOne
from octavo_runtime.server.generation.wishes import check_number, set_aside, without_server_tools
from octavo_runtime.server.responses.items import Input
from octavo_runtime.server.responses.tools import AllowedTools, CustomTool, NamedTool, Tool, offered
from octavo_runtime.server.tools.tool import MOST_TOOLS

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
    "moderation": (None,),
    "previous_response_id": (None,),
    "prompt": (None,),
}

# Fields in which null is a value, and not absence.
_VALUES = frozenset({"chat_template_kwargs", "metadata", "parameters", "schema"})


class TextFormat(BaseModel):
    """The form that the answer must have. Every answer keeps to the schema, whatever `strict` says."""

    model_config = ConfigDict(extra="forbid", strict=True, serialize_by_alias=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Text | None = Field(None, exclude_if=is_null)
    description: Text | None = Field(None, exclude_if=is_null)
    strict: bool | None = Field(None, exclude_if=is_null)
    schema_: Schema | None = Field(None, alias="schema", exclude_if=is_null)

    @model_validator(mode="after")
    def _schema_with_its_type(self) -> "TextFormat":
        for field, value in (("name", self.name), ("schema", self.schema_)):
            if self.type == "json_schema" and value is None:
                raise ValueError(f"{field} is required with type json_schema")
            if self.type != "json_schema" and value is not None:
                raise ValueError(f"{field} cannot be combined with type {self.type}")
        return self


class TextConfig(BaseModel):
    """How the answer's text is to look. verbosity: OpenAI's default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: TextFormat | None = None
    verbosity: Literal["medium"] = "medium"


class ReasoningConfig(BaseModel):
    """effort reaches the chat templates that know it. There are no summaries."""

    model_config = ConfigDict(extra="forbid", strict=True)

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: None = None


ToolChoice = Literal["none", "auto", "required"] | Annotated[NamedTool | AllowedTools, Field(discriminator="type")]


class ResponsesRequest(BaseModel):
    """POST /v1/responses: what needs no state on the server. What would change the answer and is not supported, or that
    nobody defines, is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Default: the served one.")
    input: Input
    instructions: Text | None = None
    stream: bool | None = None
    max_output_tokens: AtLeastOne | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    include: ListOf[Text] | None = Field(
        None,
        description="message.output_text.logprobs; all else is of tools and states that are not here, and ignored.",
    )
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    tools: ListOf[Tool | None] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: Annotated[dict[str, Any], AfterValidator(valid_value)] | None = None
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
        if not isinstance(value, dict):
            return value
        check_number("tools", value.get("tools"), MOST_TOOLS)
        given = without_unsupported(without_nulls(value, _VALUES), _WITHOUT_EFFECT, _NEUTRAL)
        return without_server_tools(set_aside(given, wishes.RESPONSES), wishes.TOOLS_OF_OPENAIS_SERVERS)

    @model_validator(mode="after")
    def _fields_agree(self) -> "ResponsesRequest":
        if self.top_logprobs and not self.wants_logprobs:
            raise broken_rule("top_logprobs", f"only allowed when include has {_LOGPROBS}, got {self.top_logprobs}")
        return self

    @model_validator(mode="after")
    def _grammars_are_wishes(self) -> "ResponsesRequest":
        for one in offered(self.tools or ()):
            if isinstance(one.tool, CustomTool) and one.tool.format is not None and one.tool.format.type == "grammar":
                wishes.ignore(f"{one.place}.format", one.tool.format.syntax, wishes.GRAMMAR)
        return self

    @property
    def wants_logprobs(self) -> bool:
        """Whether each token's log-probability comes with the text."""
        return _LOGPROBS in (self.include or ())
