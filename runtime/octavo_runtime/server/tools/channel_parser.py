"""Reasoning, text and calls out of a model's messages, as they come, where each names its channel (OpenAI's harmony
format, cookbook.openai.com/articles/openai-harmony)."""

import re
from collections.abc import Callable, Collection

from octavo_runtime.server.reasoning.splitter import suffix_in
from octavo_runtime.server.tools.event import CallArguments, CallStart, Content, Event, Thought
from octavo_runtime.server.tools.json_span import JsonSpan
from octavo_runtime.server.tools.syntax import CHANNEL, MESSAGE, START
from octavo_runtime.server.tools.unread import Unread, settle

_ENDS = "<|end|>", "<|call|>", "<|return|>", START
_BEGINNINGS = CHANNEL, START, "to="
_CHANNEL = re.compile(rf"{re.escape(CHANNEL)}\s*(?P<name>\w+)")
_FUNCTION = re.compile(r"\bto=functions\.(?P<name>[a-zA-Z0-9_-]{1,128})")
_LONGEST_HEAD = 512  # characters; what is longer begins no message
_BETWEEN = "\n\n"  # messages of one kind


class ChannelParser:
    """See Parser. Analysis is thought, a call of a function is a call, and all else is content: the final message, and
    what the model says before it calls. The prompt has begun the first message; in_content: up to its text. names: of
    the functions that were offered."""

    def __init__(self, names: Collection[str], *, in_content: bool = False) -> None:
        self.thoughts: list[tuple[int, int | None]] = []
        """Where each message of analysis begins in the answer, and where it is over; None while it may go on."""
        self.answer_begins: int | None = 0 if in_content else None
        """Where the text of the first other message begins."""
        self._names = names
        self._unread = Unread()
        self._length = 0  # of the answer so far
        self._calls = 0
        self._tell: Callable[[str], Event] = Content  # what this message's text is
        self._has_text = False
        self._span: JsonSpan | None = None  # of the call's arguments, while they go on
        self._told: set[Callable[[str], Event]] = set()  # by the messages so far
        self._state: Callable[[], list[Event] | None] = self._body if in_content else self._head

    @property
    def settled(self) -> int:
        """How many characters of the answer were read."""
        return self._length - len(self._unread.text)

    def add(self, text: str, *, finished: bool = False) -> list[Event]:
        """See Parser."""
        self._length += len(text)
        self._unread.add(text, finished=finished)
        return settle(self._unread, lambda: self._state())

    # Each state is a step; see settle.

    def _head(self) -> list[Event] | None:
        text, finished = self._unread.text, self._unread.finished
        begun = text.lstrip()
        if not any(begun.startswith(mark) or (mark.startswith(begun) and not finished) for mark in _BEGINNINGS):
            return self._begin(Content)  # no message's head at all
        head, mark, _ = text.partition(MESSAGE)
        if mark and len(head) <= _LONGEST_HEAD:
            return self._message(head)
        if len(text) > _LONGEST_HEAD + len(MESSAGE):
            return self._begin(Content, shown=_LONGEST_HEAD)
        if finished:
            self._unread.take(len(text))
        return None

    def _message(self, head: str) -> list[Event]:
        channel, function = _CHANNEL.search(head), _FUNCTION.search(head)
        if function is not None and function["name"] not in self._names:
            return self._begin(Content, shown=len(head) + len(MESSAGE))
        if function is None and channel is not None and channel["name"] == "analysis":
            self.thoughts.append((self.settled, None))
            self._unread.take(len(head) + len(MESSAGE))
            return self._begin(Thought)
        self._unread.take(len(head) + len(MESSAGE))
        if function is None:
            return self._begin(Content)
        self._calls += 1
        self._span = JsonSpan()
        return [CallStart(self._calls - 1, function["name"]), *self._begin(self._argument)]

    def _begin(self, tell: Callable[[str], Event], shown: int = 0) -> list[Event]:
        """shown: characters of a head that is none, and is text like what follows."""
        if tell is not Thought and self.answer_begins is None:
            self.answer_begins = self.settled
        self._tell, self._has_text, self._state = tell, False, self._body
        return self._text(self._unread.take(shown))

    def _body(self) -> list[Event] | None:
        unread = self._unread
        ends = [(place, mark) for mark in _ENDS if (place := unread.text.find(mark)) >= 0]
        if ends:
            place, mark = min(ends)
            events = self._text(unread.take(place))
            unread.take(0 if mark == START else len(mark))
            return [*events, *self._end()]
        keep = 0 if unread.finished else max(suffix_in(unread.text, mark) for mark in _ENDS)
        return self._text(unread.take(len(unread.text) - keep)) or None

    def _end(self) -> list[Event]:
        """Behind a message."""
        tell, self._state = self._tell, self._head
        if tell is Thought:
            begin, _ = self.thoughts[-1]
            self.thoughts[-1] = begin, self.settled
        return [tell("{}")] if tell == self._argument and not self._has_text else []

    def _text(self, text: str) -> list[Event]:
        if self._tell == self._argument:
            text = self._of_object(text)
        if not text:
            return []
        before = _BETWEEN if not self._has_text and self._tell in self._told else ""
        self._has_text = True
        if self._tell != self._argument:
            self._told.add(self._tell)
        return [self._tell(before + text)]

    def _of_object(self, text: str) -> str:
        """What of the text is the call's object: behind it may be a part of a mark that the answer's end cut."""
        if self._span is None:
            return ""
        reach = self._span.add(text)
        if reach.ended or reach.broken:
            self._span = None
        return text[: reach.length]

    def _argument(self, text: str) -> Event:
        return CallArguments(self._calls - 1, text)


class ChannelSpan:
    """Tells one answer's messages of analysis in the beginning from what follows. A Preamble: stop strings are for the
    answer."""

    def __init__(self, *, in_content: bool = False) -> None:
        self._parser = ChannelParser((), in_content=in_content)
        self._given = 0  # characters
        self._pending = ""

    def add(self, text: str, *, finished: bool) -> tuple[str, str]:
        """The next piece of the answer; what is settled of it: reasoning, and text behind it."""
        self._parser.add(text, finished=finished)
        self._pending += text
        begins = self._parser.answer_begins
        inside = (self._parser.settled if begins is None else max(begins, self._given)) - self._given
        behind = 0 if begins is None else len(self._pending) - inside
        self._given += inside + behind
        before, after = self._pending[:inside], self._pending[inside : inside + behind]
        self._pending = self._pending[inside + behind :]
        return before, after
