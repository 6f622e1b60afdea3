"""What a reader of a model's text finds in it."""

from typing import NamedTuple, Protocol


class Content(NamedTuple):
    """Text for the reader."""

    text: str


class Thought(NamedTuple):
    """More of what the model thinks before it answers."""

    text: str


class CallStart(NamedTuple):
    """A call begins: its number in the answer, and the function's name."""

    call: int
    name: str


class CallArguments(NamedTuple):
    """More of a call's arguments, JSON text."""

    call: int
    text: str


Event = Content | Thought | CallStart | CallArguments


class Parser(Protocol):
    """Reads one answer; the events, put together, do not depend on how the text was cut.

    A call of a function that was not offered, or of a form that is none, is content, mark and all."""

    def add(self, text: str, *, finished: bool = False) -> list[Event]:
        """What the next piece of the answer brings. finished: it was the last one."""
