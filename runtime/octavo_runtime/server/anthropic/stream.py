"""From the pieces of an answer to the events of a message."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from octavo_runtime.server.anthropic import events
from octavo_runtime.server.anthropic.objects import (
    Content,
    MessageObject,
    TextContent,
    ThinkingContent,
    ToolUseContent,
    message_usage,
    new_id,
    stop_reason,
    stop_sequence,
    tool_use_id,
)
from octavo_runtime.server.generation.pieces import (
    ArgumentsDelta,
    Finish,
    Piece,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallStart,
)
from octavo_runtime.server.generation.usage import Usage
from octavo_runtime.server.http.error_shapes import anthropic_error
from octavo_runtime.server.http.errors import ApiError, error_message
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.tools import arguments


async def message_events(model: str, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[events.Event, None]:
    """All events of one message, as its pieces come. model: the name that the client asked for."""
    blocks = _Blocks()
    async with aclosing(pieces):
        async for piece in pieces:
            match piece:
                case Start():
                    yield events.Start(_empty(model, piece.usage))
                    yield events.Ping()
                case Finish():
                    for event in blocks.close():
                        yield event
                    ended = events.Stopped(
                        stop_reason(piece.finish_reason, piece.stop_reason),
                        stop_sequence(piece.finish_reason, piece.stop_reason),
                    )
                    yield events.MessageDelta(ended, message_usage(piece.usage))
                    yield events.Stop()
                case _:
                    for event in blocks.after(piece):
                        yield event


def failure(error: ApiError) -> events.Failure:
    """The event that ends the stream where something broke."""
    told = anthropic_error(error.status_code, error_message(error), current_request().id)
    return events.Failure(told["error"], told["request_id"])


class _Blocks:
    """Opens the block that a piece belongs to, where another one is open, and lets it grow. A tool's block that is no
    whole call never stops: clients make the call when it does."""

    def __init__(self) -> None:
        self._open: type[Content] | None = None
        self._index = 0
        self._input: list[str] = []  # of the open block, in pieces

    def after(self, piece: TextDelta | ReasoningDelta | ToolCallStart | ArgumentsDelta) -> Iterator[events.Event]:
        match piece:
            case ToolCallStart():
                yield from self.close()
                yield from self._begin(ToolUseContent(id=tool_use_id(piece.id), name=piece.name, input={}))
            case ArgumentsDelta():
                self._input.append(piece.json)
                yield events.BlockDelta(self._index, events.InputDelta(piece.json))
            case ReasoningDelta():
                if self._open is not ThinkingContent:
                    yield from self.close()
                    yield from self._begin(ThinkingContent(thinking=""))
                yield events.BlockDelta(self._index, events.ThinkingDelta(piece.text))
            case TextDelta():
                if self._open is not TextContent:
                    yield from self.close()
                    yield from self._begin(TextContent(text=""))
                yield events.BlockDelta(self._index, events.TextDelta(piece.text))

    def close(self) -> Iterator[events.Event]:
        if self._open is not None:
            if self._open is not ToolUseContent or arguments.whole("".join(self._input)) is not None:
                yield events.BlockStop(self._index)
            self._open = None
            self._index += 1

    def _begin(self, block: Content) -> Iterator[events.Event]:
        self._open, self._input = type(block), []
        yield events.BlockStart(self._index, block)


def _empty(model: str, usage: Usage) -> MessageObject:
    return MessageObject(
        id=new_id(), model=model, content=[], stop_reason=None, stop_sequence=None, usage=message_usage(usage)
    )
