"""Calls out of a model's text, as it comes, where they are JSON."""

import json
from collections.abc import Callable, Collection

from octavo_runtime.server.fields.text import encodable
from octavo_runtime.server.tools.event import CallArguments, CallStart, Content, Event
from octavo_runtime.server.tools.json_span import JsonSpan
from octavo_runtime.server.tools.syntax import JSON_HEAD, JsonSyntax
from octavo_runtime.server.tools.unread import Unread, settle

_LONGEST_HEAD = 256  # characters; what is longer begins no call


class CallParser:
    """See Parser. names: of the functions that were offered. Once a call's name and the first brace of its arguments
    are there, it is a call, whatever the rest of the arguments looks like. Blanks around calls are dropped, and so is a
    mark behind them that the answer's end cut. forced: the answer is nothing but calls, and no marker comes first; what
    is no call is then a cut one's mark, and nothing to read."""

    def __init__(self, syntax: JsonSyntax, names: Collection[str], *, forced: bool = False) -> None:
        self._syntax = syntax
        self._names = names
        self._forced = forced
        self._unread = Unread()
        self._calls = 0
        self._span = JsonSpan()
        self._scanned = 0  # of the text, by the span
        self._bare = syntax.bare and not forced
        self._after_call = False
        self._state: Callable[[], list[Event] | None] = self._opening if forced else self._prose

    def add(self, text: str, *, finished: bool = False) -> list[Event]:
        """See Parser."""
        self._unread.add(text, finished=finished)
        events = settle(self._unread, lambda: self._state())
        return [event for event in events if not (self._forced and isinstance(event, Content))]

    # Each state is a step; see settle.

    def _prose(self) -> list[Event] | None:
        unread = self._unread
        if self._bare or self._after_call:
            stripped = unread.text.lstrip()
            if not stripped and not (unread.finished and self._bare):
                return None
            if self._after_call:
                unread.skip_blanks()
            if self._bare and stripped.startswith("{"):
                unread.hold_blanks()
            self._after_call = False
            if self._bare:
                self._bare = False
                if stripped.startswith("{"):
                    return self._go(self._head)
        text, found = unread.prose(self._syntax.marker)
        return self._go(self._opening if found else self._prose, Content(text)) if text or found else None

    def _opening(self) -> list[Event] | None:
        if not self._unread.text.strip():
            return self._fail() if self._unread.finished else None
        self._unread.hold_blanks()
        if self._syntax.open and self._unread.text.startswith(self._syntax.open):
            self._unread.hold(len(self._syntax.open))
        return self._go(self._head)

    def _head(self) -> list[Event] | None:
        stripped = self._unread.text.lstrip()
        if not stripped:
            return self._fail() if self._unread.finished else None
        self._unread.hold_blanks()
        if self._unread.text.startswith("{"):
            self._span, self._scanned = JsonSpan(), 0
            return self._go(self._object)
        if self._syntax.named is None:
            return self._fail()
        match = self._syntax.named.match(self._unread.text)
        if match is not None and match["name"] in self._names:
            self._unread.take(match.end())
            return self._start(match["name"], self._last_arguments)
        if (
            match is not None
            or self._unread.finished
            or "{" in self._unread.text
            or len(self._unread.text) > _LONGEST_HEAD
        ):
            return self._fail()
        return None

    def _object(self) -> list[Event] | None:
        """A call that is an object. Most begin with the name, and their arguments can go out as they come."""
        match = JSON_HEAD.match(self._unread.text)
        if match is not None:
            if match["name"] not in self._names:
                return self._fail()
            self._unread.take(match.end())
            return self._start(match["name"], self._arguments)
        reach = self._span.add(self._unread.text[self._scanned :])
        end = self._scanned + reach.length
        self._scanned = end
        if reach.ended:
            call = _whole_call(self._unread.text[:end], self._names)
            if call is None:
                return self._fail()
            self._unread.take(end)
            name, arguments = call
            return [*self._start(name, self._after), CallArguments(self._calls - 1, arguments)]
        return self._fail() if reach.broken or self._unread.finished else None

    def _start(self, name: str, then: Callable[[], list[Event] | None]) -> list[Event]:
        self._unread.release()
        self._span = JsonSpan()
        self._calls += 1
        return self._go(then, CallStart(self._calls - 1, name))

    def _arguments(self) -> list[Event] | None:
        return self._argument_text(self._tail)

    def _last_arguments(self) -> list[Event] | None:
        return self._argument_text(self._after)

    def _argument_text(self, then: Callable[[], list[Event] | None]) -> list[Event] | None:
        if not self._unread.text:
            return None
        reach = self._span.add(self._unread.text)
        text = self._unread.take(reach.length)
        events: list[Event] = [CallArguments(self._calls - 1, text)] if text else []
        if reach.ended or reach.broken:
            return self._go(then, *events)
        return events

    def _tail(self) -> list[Event] | None:
        """What is left of a call's object behind its arguments; its last brace may be missing."""
        stripped = self._unread.text.lstrip()
        if not stripped:
            return None
        if stripped.startswith("}"):
            self._unread.take(len(self._unread.text) - len(stripped) + 1)
        elif stripped.startswith(","):
            self._span = JsonSpan(depth=1)
            return self._go(self._other_fields)
        return self._go(self._after)

    def _other_fields(self) -> list[Event] | None:
        if not self._unread.text:
            return None
        reach = self._span.add(self._unread.text)
        self._unread.take(reach.length)
        return self._go(self._after) if reach.ended or reach.broken else []

    def _after(self) -> list[Event] | None:
        syntax = self._syntax
        for mark in syntax.call_close:
            stripped = self._unread.text.lstrip()
            if stripped.startswith(mark):
                self._unread.text = stripped.removeprefix(mark)
        stripped = self._unread.text.lstrip()
        blanks = len(self._unread.text) - len(stripped)
        if not stripped:
            return None
        if any(mark.startswith(stripped) for mark in (*syntax.call_close, syntax.call_open)):
            return self._go(self._head) if stripped == syntax.call_open else self._wait_for_mark()
        if syntax.call_open and stripped.startswith(syntax.call_open):
            return self._go(self._head)
        if syntax.close and stripped.startswith(syntax.close):
            self._unread.take(blanks + len(syntax.close))
            self._after_call = True
            return self._go(self._prose)
        if syntax.close.startswith(stripped) or stripped.rstrip() == syntax.separator:
            return self._wait_for_mark()
        if syntax.separator and stripped.startswith(syntax.separator):
            self._unread.hold(blanks + len(syntax.separator))
            return self._go(self._head)
        if stripped.startswith("{"):
            return self._go(self._head)
        return self._go(self._prose)

    def _wait_for_mark(self) -> list[Event] | None:
        """For the rest of what is none of a call's own text; what the answer's end cut of it is dropped."""
        if self._unread.finished:
            self._unread.text = ""
        return None

    def _go(self, state: Callable[[], list[Event] | None], *events: Event) -> list[Event]:
        self._state = state
        return [event for event in events if event != Content("")]

    def _fail(self) -> list[Event]:
        """No call after all: what was held is content, and what follows is looked at anew."""
        return self._go(self._prose, Content(self._unread.release()))


def _whole_call(text: str, names: Collection[str]) -> tuple[str, str] | None:
    """The name and the arguments' JSON of a call in any order; None where it is none."""
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str) or call["name"] not in names:
        return None
    arguments = call.get("arguments", call.get("parameters"))
    if not isinstance(arguments, str):
        arguments = json.dumps({} if arguments is None else arguments, ensure_ascii=False)
    return call["name"], encodable(arguments)
