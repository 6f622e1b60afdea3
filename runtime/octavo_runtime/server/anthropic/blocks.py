"""The blocks that messages are made of, as clients send them. Fields that are not here, such as marks for a cache that
needs none, change nothing that was said, and are ignored."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag

from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.text import Text, valid_value


class TextBlock(BaseModel):
    """Text."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: Text


TextBlocks = ListOf[TextBlock]


class ThinkingBlock(BaseModel):
    """What the model thought before; its signature is not checked."""

    model_config = ConfigDict(strict=True)

    type: Literal["thinking"]
    thinking: Text
    signature: Text = ""


class RedactedThinkingBlock(BaseModel):
    """Thinking that nobody can read; ignored."""

    model_config = ConfigDict(strict=True)

    type: Literal["redacted_thinking"]
    data: Text


class ToolUseBlock(BaseModel):
    """A call that the model made before."""

    model_config = ConfigDict(strict=True)

    type: Literal["tool_use"]
    id: Text
    name: Text
    input: Annotated[dict[str, Any], AfterValidator(valid_value)]


class ToolResultBlock(BaseModel):
    """What a call brought. is_error is accepted without effect: chat has no such mark, the content says what failed."""

    model_config = ConfigDict(strict=True)

    type: Literal["tool_result"]
    tool_use_id: Text
    content: Text | TextBlocks = ""
    is_error: bool | None = None


def _kind(block: Any) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return f"block[{kind}]" if isinstance(kind, str) else None


# Tags in brackets stay out of the field names that errors show.
UserBlock = Annotated[
    Annotated[TextBlock, Tag("block[text]")] | Annotated[ToolResultBlock, Tag("block[tool_result]")],
    Discriminator(
        _kind,
        custom_error_type="block_type",
        custom_error_message="must be an object whose type is text or tool_result, with role user",
    ),
]
AssistantBlock = Annotated[
    Annotated[TextBlock, Tag("block[text]")]
    | Annotated[ThinkingBlock, Tag("block[thinking]")]
    | Annotated[RedactedThinkingBlock, Tag("block[redacted_thinking]")]
    | Annotated[ToolUseBlock, Tag("block[tool_use]")],
    Discriminator(
        _kind,
        custom_error_type="block_type",
        custom_error_message="must be an object whose type is text, thinking, redacted_thinking or tool_use, with role "
        "assistant",
    ),
]


class UserMessage(BaseModel):
    """What the user said, and what tools brought."""

    model_config = ConfigDict(strict=True)

    role: Literal["user"]
    content: Text | ListOf[UserBlock]


class AssistantMessage(BaseModel):
    """What the model said. As the last message it is the beginning of the answer."""

    model_config = ConfigDict(strict=True)

    role: Literal["assistant"]
    content: Text | ListOf[AssistantBlock]


class SystemMessage(BaseModel):
    """Instructions in the midst of a conversation."""

    model_config = ConfigDict(strict=True)

    role: Literal["system"]
    content: Text | TextBlocks


def _role(message: Any) -> str | None:
    role = message.get("role") if isinstance(message, dict) else getattr(message, "role", None)
    return f"message[{role}]" if isinstance(role, str) else None


Message = Annotated[
    Annotated[UserMessage, Tag("message[user]")]
    | Annotated[AssistantMessage, Tag("message[assistant]")]
    | Annotated[SystemMessage, Tag("message[system]")],
    Discriminator(
        _role,
        custom_error_type="message_role",
        custom_error_message="must be an object whose role is user, assistant or system",
    ),
]

Messages = Annotated[ListOf[Message], Field(min_length=1)]
