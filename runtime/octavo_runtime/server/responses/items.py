"""The items that a Responses request puts in: messages, calls, their outputs, and reasoning. Fields that are not here,
such as an item's id and status, change nothing that was said, and are ignored."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Tag

from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.text import Text


class TextPart(BaseModel):
    """Text of a message or of a function's output."""

    model_config = ConfigDict(strict=True)

    type: Literal["input_text", "output_text"]
    text: Text


class MessageItem(BaseModel):
    """A message."""

    model_config = ConfigDict(strict=True)

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | ListOf[TextPart]


class FunctionCallItem(BaseModel):
    """A call that the model made before. arguments: JSON text."""

    model_config = ConfigDict(strict=True)

    type: Literal["function_call"]
    call_id: Text
    name: Text
    namespace: Text | None = None
    arguments: Text


class CustomCallItem(BaseModel):
    """A call of a custom tool that the model made before."""

    model_config = ConfigDict(strict=True)

    type: Literal["custom_tool_call"]
    call_id: Text
    name: Text
    namespace: Text | None = None
    input: Text


class CallOutputItem(BaseModel):
    """What a call brought."""

    model_config = ConfigDict(strict=True)

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Text
    output: Text | ListOf[TextPart]


class ReasoningPart(BaseModel):
    """A piece of reasoning."""

    model_config = ConfigDict(strict=True)

    type: Literal["reasoning_text"]
    text: Text


class ReasoningItem(BaseModel):
    """Reasoning of an earlier answer. Only what is in the open reaches the model."""

    model_config = ConfigDict(strict=True)

    type: Literal["reasoning"]
    content: ListOf[ReasoningPart] | None = None


def _kind(item: Any) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return f"item[{kind}]" if isinstance(kind, str) else None


InputItem = Annotated[
    # Tags in brackets stay out of the field names that errors show.
    Annotated[MessageItem, Tag("item[message]")]
    | Annotated[FunctionCallItem, Tag("item[function_call]")]
    | Annotated[CustomCallItem, Tag("item[custom_tool_call]")]
    | Annotated[CallOutputItem, Tag("item[function_call_output]")]
    | Annotated[CallOutputItem, Tag("item[custom_tool_call_output]")]
    | Annotated[ReasoningItem, Tag("item[reasoning]")],
    Discriminator(
        _kind,
        custom_error_type="item_type",
        custom_error_message="must be an object whose type is message, function_call, function_call_output, "
        "custom_tool_call, custom_tool_call_output or reasoning",
    ),
]


def _not_empty(given: str | list[InputItem]) -> str | list[InputItem]:
    # Pydantic's own rule would be one of two complaints, and the other is that a list is no string.
    if isinstance(given, list) and not given:
        raise ValueError("must have at least one item")
    return given


Input = Annotated[Text | ListOf[InputItem], AfterValidator(_not_empty)]
