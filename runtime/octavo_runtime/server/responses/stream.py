"""From the pieces of an answer to the events of a response."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from octavo_runtime.server.generation.pieces import (
    ArgumentsDelta,
    Finish,
    Piece,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallStart,
)
from octavo_runtime.server.generation.token_logprobs import ChosenTokenLogprob
from octavo_runtime.server.http.errors import ApiError, error_message
from octavo_runtime.server.responses import events
from octavo_runtime.server.responses.objects import (
    ItemStatus,
    OutputCall,
    OutputCustomCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    ReasoningText,
    ResponseObject,
    call_status,
    end_response,
    fail_response,
    new_id,
    output_call,
)
from octavo_runtime.server.responses.tools import custom_input


class ResponseStream:
    """The events of one response. Each kind of piece opens its item where another one is open; items close in order.
    The last can be incomplete, and so can a call: its arguments are never said to be done then."""

    def __init__(self, response: ResponseObject) -> None:
        self._response = response
        self._item: OutputItem | None = None
        self._text: list[str] = []  # of the open item
        self._logprobs: list[ChosenTokenLogprob] = []
        self._events = 0

    async def follow(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[events.Event, None]:
        """All events, as the pieces come."""
        async with aclosing(pieces):
            async for piece in pieces:
                for event in self._after(piece):
                    yield event

    def failure(self, error: ApiError) -> events.Failed:
        """The event that ends the stream where something broke."""
        self._response = fail_response(self._response, error.status_code, error_message(error))
        return events.Failed(sequence_number=self._next(), response=self._response)

    def _after(self, piece: Piece) -> Iterator[events.Event]:
        match piece:
            case Start():
                yield events.Created(sequence_number=self._next(), response=self._response)
                yield events.InProgress(sequence_number=self._next(), response=self._response)
            case ReasoningDelta():
                yield from self._grow(OutputReasoning, piece.text)
            case TextDelta():
                yield from self._grow(OutputMessage, piece.text, list(piece.logprobs))
            case ToolCallStart():
                yield from self._close("completed")
                yield from self._open(output_call(self._response, piece.id, piece.name, "", "in_progress"))
            case ArgumentsDelta():
                yield from self._argue(piece.json)
            case Finish():
                cut = piece.finish_reason == "length"
                yield from self._close("incomplete" if cut else "completed")
                if not self._response.output:  # an answer without a word is a message too
                    yield from self._open(_new(OutputMessage))
                    yield from self._close("incomplete" if cut else "completed")
                output = self._response.output
                self._response = end_response(self._response, output, piece.finish_reason, piece.usage)
                kind = events.Incomplete if self._response.status == "incomplete" else events.Completed
                yield kind(sequence_number=self._next(), response=self._response)

    def _grow(
        self, kind: type[OutputItem], text: str, logprobs: list[ChosenTokenLogprob] | None = None
    ) -> Iterator[events.Event]:
        if not isinstance(self._item, kind):
            yield from self._close("completed")
            yield from self._open(_new(kind))
        assert self._item is not None
        self._text.append(text)
        self._logprobs += logprobs or []
        number, place, index = self._next(), self._item.id, len(self._response.output)
        match self._item:
            case OutputMessage():
                yield events.TextDelta(
                    sequence_number=number, item_id=place, output_index=index, delta=text, logprobs=logprobs or []
                )
            case OutputReasoning():
                yield events.ReasoningDelta(sequence_number=number, item_id=place, output_index=index, delta=text)

    def _argue(self, json: str) -> Iterator[events.Event]:
        self._text.append(json)
        if isinstance(self._item, OutputCall):  # a custom tool's input comes once its JSON is whole
            index = len(self._response.output)
            yield events.ArgumentsDelta(
                sequence_number=self._next(), item_id=self._item.id, output_index=index, delta=json
            )

    def _open(self, item: OutputItem) -> Iterator[events.Event]:
        self._item, self._text, self._logprobs = item, [], []
        index = len(self._response.output)
        called = isinstance(item, OutputCall | OutputCustomCall)
        bare = item if called else item.model_copy(update={"content": []})
        yield events.ItemAdded(sequence_number=self._next(), output_index=index, item=bare)
        if not isinstance(item, OutputCall | OutputCustomCall):
            yield events.PartAdded(
                sequence_number=self._next(), item_id=item.id, output_index=index, part=item.content[0]
            )

    def _close(self, status: ItemStatus) -> Iterator[events.Event]:
        if self._item is None:
            return
        item, text, index = self._item, "".join(self._text), len(self._response.output)
        match item:
            case OutputMessage():
                part = OutputText(text=text, logprobs=self._logprobs)
                done: OutputItem = item.model_copy(update={"content": [part], "status": status})
                yield events.TextDone(
                    sequence_number=self._next(),
                    item_id=item.id,
                    output_index=index,
                    text=text,
                    logprobs=self._logprobs,
                )
                yield events.PartDone(sequence_number=self._next(), item_id=item.id, output_index=index, part=part)
            case OutputReasoning():
                thought = ReasoningText(text=text)
                done = item.model_copy(update={"content": [thought], "status": status})
                yield events.ReasoningDone(sequence_number=self._next(), item_id=item.id, output_index=index, text=text)
                yield events.PartDone(sequence_number=self._next(), item_id=item.id, output_index=index, part=thought)
            case OutputCall():
                status = call_status(text)
                done = item.model_copy(update={"arguments": text, "status": status})
                if status == "completed":
                    yield events.ArgumentsDone(
                        sequence_number=self._next(),
                        item_id=item.id,
                        output_index=index,
                        name=item.name,
                        arguments=text,
                    )
            case OutputCustomCall():
                status = call_status(text)
                done = item.model_copy(update={"input": custom_input(text), "status": status})
                if status == "completed":
                    yield events.InputDelta(
                        sequence_number=self._next(), item_id=item.id, output_index=index, delta=done.input
                    )
                    yield events.InputDone(
                        sequence_number=self._next(), item_id=item.id, output_index=index, input=done.input
                    )
        yield events.ItemDone(sequence_number=self._next(), output_index=index, item=done)
        self._response = self._response.model_copy(update={"output": [*self._response.output, done]})
        self._item = None

    def _next(self) -> int:
        self._events += 1
        return self._events - 1


def _new(kind: type[OutputItem]) -> OutputItem:
    if kind is OutputReasoning:
        return OutputReasoning(id=new_id("rs"), content=[ReasoningText()], status="in_progress")
    return OutputMessage(id=new_id("msg"), content=[OutputText()], status="in_progress")
