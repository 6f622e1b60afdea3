"""Calls out of a model's text, as it comes, where each argument stands in tags of its own."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from octavo_runtime.server.reasoning.splitter import suffix_in
from octavo_runtime.server.tools.event import CallArguments, CallStart, Content, Event
from octavo_runtime.server.tools.syntax import TaggedSyntax
from octavo_runtime.server.tools.unread import Unread, settle
from octavo_runtime.server.tools.values import STRING, as_json, kinds_of

_LONGEST_HEAD = 256  # characters; what is longer begins no call, and no argument


class TaggedParser:
    """See Parser. functions: the JSON schemas of the arguments of those that were offered, by name. The text of an
    argument that must be a string goes out as it comes, and others once they are whole. A call whose end never comes
    keeps its arguments' last brace: they are no JSON then."""

    def __init__(self, syntax: TaggedSyntax, functions: Mapping[str, Mapping[str, Any]]) -> None:
        self._syntax = syntax
        self._functions = functions
        self._function: Mapping[str, Any] = {}  # that is called
        self._unread = Unread()
        self._calls = 0
        self._arguments = 0  # of this call
        self._kinds: frozenset[str] | None = None  # of the argument
        self._after_call = False
        self._state: Callable[[], list[Event] | None] = self._prose

    def add(self, text: str, *, finished: bool = False) -> list[Event]:
        """See Parser."""
        self._unread.add(text, finished=finished)
        return settle(self._unread, lambda: self._state())

    # Each state is a step; see settle.

    def _prose(self) -> list[Event] | None:
        if self._after_call:
            self._unread.skip_blanks()
            if not self._unread.text:
                return None
            self._after_call = False
        text, found = self._unread.prose(self._syntax.marker)
        return self._go(self._head if found else self._prose, text) if text or found else None

    def _head(self) -> list[Event] | None:
        unread, syntax = self._unread, self._syntax
        unread.hold_blanks()
        match = syntax.head.match(unread.text)
        if match is not None and match["name"] in self._functions:
            unread.take(match.end())
            unread.release()
            self._arguments, self._function = 0, self._functions[match["name"]]
            self._calls += 1
            self._state = self._argument
            return [CallStart(self._calls - 1, match["name"])]
        ends = syntax.head_end in unread.text or len(unread.text) > _LONGEST_HEAD
        if match is not None or ends or unread.finished:
            return self._go(self._prose, unread.release())
        return None

    def _argument(self) -> list[Event] | None:
        """Between two arguments, or behind the last one."""
        unread, syntax = self._unread, self._syntax
        unread.skip_blanks()
        match = syntax.argument.match(unread.text)
        if match is not None:
            unread.take(match.end())
            self._kinds = kinds_of(self._function, match["key"])
            self._arguments += 1
            comma = "{" if self._arguments == 1 else ", "
            return self._go(self._value_begins, told=f"{comma}{json.dumps(match['key'], ensure_ascii=False)}: ")
        ends = unread.text.startswith(syntax.call_close)
        # What is neither ends the call too.
        if ends or (unread.text and not unread.text.startswith("<")) or len(unread.text) > _LONGEST_HEAD:
            unread.take(len(syntax.call_close) * ends)
            return self._go(self._after if ends else self._prose, told="}" if self._arguments else "{}")
        return None

    def _value_begins(self) -> list[Event] | None:
        if not self._unread.text:
            return None
        self._unread.text = self._unread.text.removeprefix(self._syntax.padding)
        if self._kinds == STRING:
            return self._go(self._string, told='"')
        return self._go(self._value)

    def _string(self) -> list[Event] | None:
        unread, padding, close = self._unread, self._syntax.padding, self._syntax.argument_close
        text, mark, _ = unread.text.partition(close)
        if mark:
            unread.take(len(text) + len(mark))
            return self._go(self._argument, told=_escaped(text.removesuffix(padding)) + '"')
        keep = 0 if unread.finished else suffix_in(unread.text, padding + close) or suffix_in(unread.text, close)
        text = unread.take(len(unread.text) - keep)
        return self._go(self._string, told=_escaped(text)) if text else None

    def _value(self) -> list[Event] | None:
        text, mark, _ = self._unread.text.partition(self._syntax.argument_close)
        if not mark:
            return None
        self._unread.take(len(text) + len(mark))
        return self._go(self._argument, told=as_json(text.removesuffix(self._syntax.padding), self._kinds))

    def _after(self) -> list[Event] | None:
        """Behind a call, where another one may follow in the same section."""
        unread, close, again = self._unread, self._syntax.close, self._syntax.call_open
        unread.skip_blanks()
        if again and unread.text.startswith(again):
            return self._go(self._head)
        if close and unread.text.startswith(close):
            unread.take(len(close))
        elif not unread.text or any(mark.startswith(unread.text) for mark in (close, again)):
            if unread.finished:
                unread.text = ""
            return None
        self._after_call = True
        return self._go(self._prose)

    def _go(self, state: Callable[[], list[Event] | None], content: str = "", *, told: str = "") -> list[Event]:
        self._state = state
        events: list[Event] = [Content(content)] if content else []
        return [*events, CallArguments(self._calls - 1, told)] if told else events


def _escaped(text: str) -> str:
    """A part of a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
