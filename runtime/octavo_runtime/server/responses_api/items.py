"""The items that a Responses request puts in: messages, calls, their outputs, and reasoning."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Tag

from octavo_runtime.server.json_list import ListOf
from octavo_runtime.server.text import Text

_Status = Literal["in_progress", "completed", "incomplete"]


class TextPart(BaseModel):
    """Text of a message or of a function's output. annotations and logprobs of an earlier answer are ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["input_text", "output_text"]
    text: Text
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class MessageItem(BaseModel):
    """A message. id, status and phase come from earlier answers and are ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | ListOf[TextPart]
    id: Text | None = None
    status: _Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(BaseModel):
    """A call that the model made before. arguments: JSON text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text
    id: Text | None = None
    status: _Status | None = None


class FunctionCallOutputItem(BaseModel):
    """What a call brought."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function_call_output"]
    call_id: Text
    output: Text | ListOf[TextPart]
    id: Text | None = None
    status: _Status | None = None


class ReasoningPart(BaseModel):
    """A piece of reasoning."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["reasoning_text"]
    text: Text


class ReasoningItem(BaseModel):
    """Reasoning of an earlier answer. Only what is in the open reaches the model: summary and encrypted_content are
    ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["reasoning"]
    content: ListOf[ReasoningPart] | None = None
    summary: list[Any] | None = None
    encrypted_content: Text | None = None
    id: Text | None = None
    status: _Status | None = None


def _kind(item: Any) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return f"item[{kind}]" if isinstance(kind, str) else None


InputItem = Annotated[
    # Tags in brackets stay out of the field names that errors show.
    Annotated[MessageItem, Tag("item[message]")]
    | Annotated[FunctionCallItem, Tag("item[function_call]")]
    | Annotated[FunctionCallOutputItem, Tag("item[function_call_output]")]
    | Annotated[ReasoningItem, Tag("item[reasoning]")],
    Discriminator(
        _kind,
        custom_error_type="item_type",
        custom_error_message="must be an object whose type is message, function_call, function_call_output or "
        "reasoning",
    ),
]


def _not_empty(given: str | list[InputItem]) -> str | list[InputItem]:
    # Pydantic's own rule would be one of two complaints, and the other is that a list is no string.
    if isinstance(given, list) and not given:
        raise ValueError("must have at least one item")
    return given


Input = Annotated[Text | ListOf[InputItem], AfterValidator(_not_empty)]
