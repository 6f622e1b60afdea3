"""The events of a streamed message (docs.anthropic.com/en/docs/build-with-claude/streaming)."""

from typing import Any

import msgspec

from octavo_runtime.server.anthropic.objects import Content, MessageObject, MessageUsage, StopReason


class TextDelta(msgspec.Struct, tag_field="type", tag="text_delta"):
    """More of a text."""

    text: str


class ThinkingDelta(msgspec.Struct, tag_field="type", tag="thinking_delta"):
    """More thinking."""

    thinking: str


class InputDelta(msgspec.Struct, tag_field="type", tag="input_json_delta"):
    """More of a tool's input, as JSON text."""

    partial_json: str


class Start(msgspec.Struct, tag_field="type", tag="message_start"):
    """The message, still empty."""

    message: MessageObject


class Ping(msgspec.Struct, tag_field="type", tag="ping"):
    """Nothing; clients expect it."""


class BlockStart(msgspec.Struct, tag_field="type", tag="content_block_start"):
    """A block begins, still empty."""

    index: int
    content_block: Content


class BlockDelta(msgspec.Struct, tag_field="type", tag="content_block_delta"):
    """A block grows."""

    index: int
    delta: TextDelta | ThinkingDelta | InputDelta


class BlockStop(msgspec.Struct, tag_field="type", tag="content_block_stop"):
    """A block is whole. There is none for a call that was cut."""

    index: int


class Stopped(msgspec.Struct):
    """Why the message ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(msgspec.Struct, tag_field="type", tag="message_delta"):
    """The end of the message, and its counts."""

    delta: Stopped
    usage: MessageUsage


class Stop(msgspec.Struct, tag_field="type", tag="message_stop"):
    """The last event."""


class Failure(msgspec.Struct, tag_field="type", tag="error"):
    """The last event where something broke. error: its type and message."""

    error: dict[str, Any]
    request_id: str


Event = Start | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | Stop | Failure
