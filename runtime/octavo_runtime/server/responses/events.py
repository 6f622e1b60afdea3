"""The events of a streamed response (platform.openai.com/docs/api-reference/responses-streaming). Nothing but the tag
tells them apart; sequence_number counts from 0."""

import msgspec

from octavo_runtime.server.generation.token_logprobs import ChosenTokenLogprob
from octavo_runtime.server.responses.objects import OutputItem, OutputText, ReasoningText, ResponseObject


class Event(msgspec.Struct, kw_only=True, tag_field="type"):
    """What all have."""

    sequence_number: int


class Created(Event, tag="response.created"):
    """The first event."""

    response: ResponseObject


class InProgress(Event, tag="response.in_progress"):
    """The second."""

    response: ResponseObject


class Completed(Event, tag="response.completed"):
    """The last event of a whole answer."""

    response: ResponseObject


class Incomplete(Event, tag="response.incomplete"):
    """The last event of an answer that met its token limit, or stopped within a call."""

    response: ResponseObject


class Failed(Event, tag="response.failed"):
    """The last event where something broke."""

    response: ResponseObject


class ItemAdded(Event, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: OutputItem


class ItemDone(Event, tag="response.output_item.done"):
    """Nothing more of an item comes; its status says whether it is whole."""

    output_index: int
    item: OutputItem


class _OfItem(Event, kw_only=True):
    item_id: str
    output_index: int


class _OfPart(_OfItem, kw_only=True):
    content_index: int = 0


class PartAdded(_OfPart, tag="response.content_part.added"):
    """A part of an item begins."""

    part: OutputText | ReasoningText


class PartDone(_OfPart, tag="response.content_part.done"):
    """A part is whole."""

    part: OutputText | ReasoningText


class TextDelta(_OfPart, tag="response.output_text.delta"):
    """Text as it comes."""

    delta: str
    logprobs: list[ChosenTokenLogprob]


class TextDone(_OfPart, tag="response.output_text.done"):
    """A part's text."""

    text: str
    logprobs: list[ChosenTokenLogprob]


class ReasoningDelta(_OfPart, tag="response.reasoning_text.delta"):
    """Reasoning as it comes."""

    delta: str


class ReasoningDone(_OfPart, tag="response.reasoning_text.done"):
    """A part's reasoning."""

    text: str


class ArgumentsDelta(_OfItem, tag="response.function_call_arguments.delta"):
    """Arguments as they come."""

    delta: str


class ArgumentsDone(_OfItem, tag="response.function_call_arguments.done"):
    """A call's arguments, where they are whole."""

    name: str
    arguments: str


class InputDelta(_OfItem, tag="response.custom_tool_call_input.delta"):
    """A custom tool's input: all of it, once it is whole, for until then it is JSON."""

    delta: str


class InputDone(_OfItem, tag="response.custom_tool_call_input.done"):
    """A custom tool's input."""

    input: str
