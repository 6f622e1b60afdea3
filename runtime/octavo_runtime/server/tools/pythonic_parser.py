"""Calls out of a model's text, as it comes, where they are a list of Python's calls."""

import json
import re
from collections.abc import Callable, Collection

from octavo_runtime.server.tools.event import CallArguments, CallStart, Content, Event
from octavo_runtime.server.tools.literal import LiteralSpan
from octavo_runtime.server.tools.syntax import PythonicSyntax
from octavo_runtime.server.tools.unread import Unread, settle
from octavo_runtime.server.tools.values import literal_json

_HEAD = re.compile(r"(?P<name>[a-zA-Z0-9_.-]{1,128})\(\s{0,8}(?=\)|[a-zA-Z_]\w{0,127}\s{0,8}=)", re.ASCII)
_HEAD_BEGUN = re.compile(r"[a-zA-Z0-9_.-]{0,128}(\(\s{0,8}([a-zA-Z_]\w{0,127}\s{0,8})?)?", re.ASCII)
_ARGUMENT = re.compile(r"(?P<key>[a-zA-Z_]\w{0,127})\s{0,8}=", re.ASCII)
_ARGUMENT_BEGUN = re.compile(r"([a-zA-Z_]\w{0,127}\s{0,8})?", re.ASCII)


class PythonicParser:
    """See Parser. names: of the functions that were offered. Their arguments have names; each goes out once it is
    whole."""

    def __init__(self, syntax: PythonicSyntax, names: Collection[str]) -> None:
        self._syntax = syntax
        self._names = names
        self._unread = Unread()
        self._calls = 0
        self._arguments = 0  # of this call
        self._span = LiteralSpan()
        self._scanned = 0  # of the text, by the span
        self._state: Callable[[], list[Event] | None] = self._begin

    def add(self, text: str, *, finished: bool = False) -> list[Event]:
        """See Parser."""
        self._unread.add(text, finished=finished)
        return settle(self._unread, lambda: self._state())

    # Each state is a step; see settle.

    def _begin(self) -> list[Event] | None:
        """Calls are all of an answer, or stand behind a marker."""
        stripped = self._unread.text.lstrip()
        if not stripped and not self._unread.finished:
            return None
        if stripped.startswith("["):
            self._unread.hold(len(self._unread.text) - len(stripped) + 1)
            return self._go(self._head)
        return self._go(self._prose)

    def _prose(self) -> list[Event] | None:
        text, found = self._unread.prose(self._syntax.marker)
        return self._go(self._opening if found else self._prose, Content(text)) if text or found else None

    def _opening(self) -> list[Event] | None:
        self._unread.hold_blanks()
        if not self._unread.text:
            return self._fail() if self._unread.finished else None
        if not self._unread.text.startswith("["):
            return self._fail()
        self._unread.hold(1)
        return self._go(self._head)

    def _head(self) -> list[Event] | None:
        self._unread.hold_blanks()
        match = _HEAD.match(self._unread.text)
        if match is not None and match["name"] in self._names:
            self._unread.take(match.end())
            self._unread.release()
            self._arguments = 0
            self._calls += 1
            return self._go(self._argument, CallStart(self._calls - 1, match["name"]))
        if match is not None or self._unread.finished or _HEAD_BEGUN.fullmatch(self._unread.text) is None:
            return self._fail()
        return None

    def _argument(self) -> list[Event] | None:
        """Before an argument, or the end of the call."""
        self._unread.skip_blanks()
        if self._unread.text.startswith(")"):
            self._unread.take(1)
            return self._go(self._after, self._told("}" if self._arguments else "{}"))
        match = _ARGUMENT.match(self._unread.text)
        if match is not None:
            self._unread.take(match.end())
            self._arguments += 1
            self._span, self._scanned = LiteralSpan(), 0
            comma = "{" if self._arguments == 1 else ", "
            return self._go(self._value, self._told(f"{comma}{json.dumps(match['key'])}: "))
        if _ARGUMENT_BEGUN.fullmatch(self._unread.text) is None:  # the call is over, whatever this is
            return self._go(self._text, self._told("}" if self._arguments else "{}"))
        return None

    def _value(self) -> list[Event] | None:
        place = self._span.add(self._unread.text[self._scanned :])
        if place is None:
            self._scanned = len(self._unread.text)
            return None
        text = self._unread.take(self._scanned + place)
        if self._unread.text.startswith(","):
            self._unread.take(1)
        return self._go(self._argument, self._told(literal_json(text)))

    def _after(self) -> list[Event] | None:
        """Behind a call."""
        self._unread.skip_blanks()
        if not self._unread.text:
            return None
        if self._unread.text.startswith(","):
            self._unread.hold(1)
            return self._go(self._head)
        if self._unread.text.startswith("]"):
            self._unread.take(1)
            return self._go(self._end)
        return self._go(self._text)

    def _end(self) -> list[Event] | None:
        """Behind all calls."""
        self._unread.skip_blanks()
        if self._unread.text.startswith(self._syntax.close):
            self._unread.take(len(self._syntax.close))
            return self._go(self._text)
        if self._syntax.close.startswith(self._unread.text):
            if self._unread.finished:
                self._unread.text = ""
            return None
        return self._go(self._text)

    def _text(self) -> list[Event] | None:
        """As prose, without the blanks behind a call."""
        self._unread.skip_blanks()
        return self._go(self._prose) if self._unread.text else None

    def _go(self, state: Callable[[], list[Event] | None], *events: Event) -> list[Event]:
        self._state = state
        return [event for event in events if event != Content("")]

    def _fail(self) -> list[Event]:
        """No call after all: what was held is content, and what follows is looked at anew."""
        return self._go(self._prose, Content(self._unread.release()))

    def _told(self, text: str) -> CallArguments:
        return CallArguments(self._calls - 1, text)
