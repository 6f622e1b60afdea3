"""Calls out of a model's text, as it comes."""

import json
from collections.abc import Callable, Collection
from typing import NamedTuple

from octavo_runtime.server.fields.text import encodable
from octavo_runtime.server.reasoning.splitter import suffix_in
from octavo_runtime.server.tools.json_span import JsonSpan
from octavo_runtime.server.tools.syntax import JSON_HEAD, Syntax

_LONGEST_HEAD = 256  # characters; what is longer begins no call


class Content(NamedTuple):
    """Text for the reader."""

    text: str


class CallStart(NamedTuple):
    """A call begins: its number in the answer, and the function's name."""

    call: int
    name: str


class CallArguments(NamedTuple):
    """More of a call's arguments, JSON text as the model writes it."""

    call: int
    text: str


Event = Content | CallStart | CallArguments


class CallParser:
    """Reads one answer in one syntax; the events, put together, do not depend on how the text was cut.

    A call of a function that is not among `names`, or of a form that is none, is content, mark and all. Once a call's
    name and the first brace of its arguments are there, it is a call, whatever the rest of the arguments looks like.
    Blanks around calls are dropped, and so is a mark behind them that the answer's end cut. forced: the answer is
    nothing but calls, and no marker comes first; what is no call is then a cut one's mark, and nothing to read."""

    def __init__(self, syntax: Syntax, names: Collection[str], *, forced: bool = False) -> None:
        self._syntax = syntax
        self._names = names
        self._forced = forced
        self._pending = ""  # text that has not been settled
        self._held = ""  # what came before it, and is content if no call follows
        self._calls = 0
        self._finished = False
        self._span = JsonSpan()
        self._scanned = 0  # of the pending text, by the span
        self._bare = syntax.bare and not forced
        self._after_call = False
        self._state: Callable[[], list[Event] | None] = self._opening if forced else self._prose

    def add(self, text: str, *, finished: bool = False) -> list[Event]:
        """What the next piece of the answer brings. finished: it was the last one."""
        self._pending += text
        self._finished = finished
        events: list[Event] = []
        while self._pending or finished:
            step = self._state()
            if step is None:
                break
            events += step
        return [event for event in events if not (self._forced and isinstance(event, Content))]

    # Each state takes what it can settle from the pending text, and returns its events; None where it needs more text,
    # or where the answer has ended.

    def _prose(self) -> list[Event] | None:
        if self._bare or self._after_call:
            stripped = self._pending.lstrip()
            if not stripped and not (self._finished and self._bare):
                return None
            if self._after_call:
                self._pending = stripped
            if self._bare and stripped.startswith("{"):
                self._hold(len(self._pending) - len(stripped))
            self._after_call = False
            if self._bare:
                self._bare = False
                if stripped.startswith("{"):
                    return self._go(self._head)
        before, marker, _ = self._pending.partition(self._syntax.marker)
        if marker:
            shown = before.rstrip()
            self._take(len(shown))
            self._hold(len(before) - len(shown) + len(marker))
            return self._go(self._opening, Content(shown))
        keep = 0
        if not self._finished:
            keep = suffix_in(self._pending, self._syntax.marker)
            before = self._pending[: len(self._pending) - keep]
            keep += len(before) - len(before.rstrip())
        text = self._take(len(self._pending) - keep)
        return [Content(text)] if text else None

    def _opening(self) -> list[Event] | None:
        if not self._pending.strip():
            return self._fail() if self._finished else None
        self._hold(len(self._pending) - len(self._pending.lstrip()))
        if self._syntax.open and self._pending.startswith(self._syntax.open):
            self._hold(len(self._syntax.open))
        return self._go(self._head)

    def _head(self) -> list[Event] | None:
        stripped = self._pending.lstrip()
        if not stripped:
            return self._fail() if self._finished else None
        self._hold(len(self._pending) - len(stripped))
        if self._pending.startswith("{"):
            self._span, self._scanned = JsonSpan(), 0
            return self._go(self._object)
        if self._syntax.named is None:
            return self._fail()
        match = self._syntax.named.match(self._pending)
        if match is not None and match["name"] in self._names:
            self._take(match.end())
            return self._start(match["name"], self._last_arguments)
        if match is not None or self._finished or "{" in self._pending or len(self._pending) > _LONGEST_HEAD:
            return self._fail()
        return None

    def _object(self) -> list[Event] | None:
        """A call that is an object. Most begin with the name, and their arguments can go out as they come."""
        match = JSON_HEAD.match(self._pending)
        if match is not None:
            if match["name"] not in self._names:
                return self._fail()
            self._take(match.end())
            return self._start(match["name"], self._arguments)
        reach = self._span.add(self._pending[self._scanned :])
        end = self._scanned + reach.length
        self._scanned = end
        if reach.ended:
            call = _whole_call(self._pending[:end], self._names)
            if call is None:
                return self._fail()
            self._take(end)
            name, arguments = call
            return [*self._start(name, self._after), CallArguments(self._calls - 1, arguments)]
        return self._fail() if reach.broken or self._finished else None

    def _start(self, name: str, then: Callable[[], list[Event] | None]) -> list[Event]:
        self._held = ""
        self._span = JsonSpan()
        self._calls += 1
        return self._go(then, CallStart(self._calls - 1, name))

    def _arguments(self) -> list[Event] | None:
        return self._argument_text(self._tail)

    def _last_arguments(self) -> list[Event] | None:
        return self._argument_text(self._after)

    def _argument_text(self, then: Callable[[], list[Event] | None]) -> list[Event] | None:
        if not self._pending:
            return None
        reach = self._span.add(self._pending)
        text = self._take(reach.length)
        events: list[Event] = [CallArguments(self._calls - 1, text)] if text else []
        if reach.ended or reach.broken:
            return self._go(then, *events)
        return events

    def _tail(self) -> list[Event] | None:
        """What is left of a call's object behind its arguments; its last brace may be missing."""
        stripped = self._pending.lstrip()
        if not stripped:
            return None
        if stripped.startswith("}"):
            self._take(len(self._pending) - len(stripped) + 1)
        elif stripped.startswith(","):
            self._span = JsonSpan(depth=1)
            return self._go(self._other_fields)
        return self._go(self._after)

    def _other_fields(self) -> list[Event] | None:
        if not self._pending:
            return None
        reach = self._span.add(self._pending)
        self._take(reach.length)
        return self._go(self._after) if reach.ended or reach.broken else []

    def _after(self) -> list[Event] | None:
        syntax = self._syntax
        for mark in syntax.call_close:
            stripped = self._pending.lstrip()
            if stripped.startswith(mark):
                self._pending = stripped.removeprefix(mark)
        stripped = self._pending.lstrip()
        blanks = len(self._pending) - len(stripped)
        if not stripped:
            return None
        if any(mark.startswith(stripped) for mark in (*syntax.call_close, syntax.call_open)):
            return self._go(self._head) if stripped == syntax.call_open else self._wait_for_mark()
        if syntax.call_open and stripped.startswith(syntax.call_open):
            return self._go(self._head)
        if syntax.close and stripped.startswith(syntax.close):
            self._take(blanks + len(syntax.close))
            self._after_call = True
            return self._go(self._prose)
        if syntax.close.startswith(stripped) or stripped.rstrip() == syntax.separator:
            return self._wait_for_mark()
        if syntax.separator and stripped.startswith(syntax.separator):
            self._hold(blanks + len(syntax.separator))
            return self._go(self._head)
        if stripped.startswith("{"):
            return self._go(self._head)
        return self._go(self._prose)

    def _wait_for_mark(self) -> list[Event] | None:
        """For the rest of what is none of a call's own text; what the answer's end cut of it is dropped."""
        if self._finished:
            self._pending = ""
        return None

    def _go(self, state: Callable[[], list[Event] | None], *events: Event) -> list[Event]:
        self._state = state
        return [event for event in events if event != Content("")]

    def _fail(self) -> list[Event]:
        """No call after all: what was held is content, and what follows is looked at anew."""
        held, self._held = self._held, ""
        return self._go(self._prose, Content(held))

    def _take(self, count: int) -> str:
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def _hold(self, count: int) -> None:
        self._held += self._take(count)


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
