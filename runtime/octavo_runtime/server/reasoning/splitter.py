"""What a model thinks before it answers, between two marks, apart from the answer."""

import codecs
from collections.abc import Sequence
from typing import NamedTuple

from octavo_runtime.text.tokenizer import Tokenizer


class Marks(NamedTuple):
    """What reasoning stands between."""

    open: str
    close: str


THINK = Marks("<think>", "</think>")


class Split(NamedTuple):
    """What a piece of an answer holds. The blanks around the marks belong to neither."""

    reasoning: str
    answer: str


class ReasoningSplitter:
    """Splits one answer as it comes; the pieces, joined, do not depend on how it was cut.

    Only an answer that begins with the first mark reasons, or one whose prompt has opened it already (`opened`)."""

    def __init__(self, marks: Marks = THINK, *, opened: bool) -> None:
        self.length: int | None = None
        """How many characters of the answer the reasoning took, with its marks; None while it may go on."""
        self.begun = False
        """Whether it is settled how the answer begins."""
        self._marks = marks
        self._opened = opened
        self._inside = False
        self._fresh = True  # nothing but blanks since the last mark
        self._pending = ""
        self._taken = 0  # characters before the pending ones

    def add(self, text: str, *, finished: bool = False) -> Split:
        """The next piece of the answer. finished: it was the last one."""
        self._pending += text
        reasoning, opening = "", self._marks.open
        if not self.begun:
            stripped = self._pending.lstrip()
            if not finished and opening.startswith(stripped[: len(opening)]) and len(stripped) < len(opening):
                return Split("", "")
            self.begun = True
            self._inside = self._opened or stripped.startswith(opening)
            if stripped.startswith(opening):
                self._take(len(self._pending) - len(stripped) + len(opening))
            elif not self._inside:
                self.length, self._fresh = 0, False
        if self._inside:
            reasoning = self._reasoning(finished)
        return Split(reasoning, "" if self._inside else self._answer())

    def _reasoning(self, finished: bool) -> str:
        self._skip_blanks()
        text = self._pending
        close = self._marks.close
        place = text.find(close)
        if place >= 0:
            self._take(place + len(close))
            self._inside, self._fresh, self.length = False, True, self._taken
            return text[:place].rstrip()
        shown = text if finished else text[: len(text) - suffix_in(text, close)]
        shown = shown.rstrip()
        self._take(len(text) if finished else len(shown))
        return shown

    def _answer(self) -> str:
        self._skip_blanks()
        return self._take(len(self._pending))

    def _skip_blanks(self) -> None:
        if self._fresh:
            self._take(len(self._pending) - len(self._pending.lstrip()))
            self._fresh = not self._pending

    def _take(self, count: int) -> str:
        taken, self._pending = self._pending[:count], self._pending[count:]
        self._taken += count
        return taken


class ReasoningSpan:
    """Tells one answer's reasoning, marks and all, from what follows. A Preamble: stop strings are for the answer."""

    def __init__(self, marks: Marks = THINK, *, opened: bool) -> None:
        self._splitter = ReasoningSplitter(marks, opened=opened)
        self._given = 0  # characters
        self._pending = ""

    def add(self, text: str, *, finished: bool) -> tuple[str, str]:
        """The next piece of the answer; what is settled of it: reasoning, and text behind it."""
        if self._splitter.length is None:
            self._splitter.add(text, finished=finished)
        text = self._pending + text
        if not self._splitter.begun:
            self._pending = text
            return "", ""
        self._pending = ""
        inside = len(text) if self._splitter.length is None else max(self._splitter.length - self._given, 0)
        self._given += inside
        return text[:inside], text[inside:]


def suffix_in(text: str, mark: str) -> int:
    """How many of the last characters of `text` may be the beginning of `mark`."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-size:])), 0)


def tokens_within(tokenizer: Tokenizer, token_ids: Sequence[int], length: int, *, skip_special_tokens: bool) -> int:
    """How many of an answer's tokens begin in its first `length` characters."""
    characters = codecs.getincrementaldecoder("utf-8")("replace")
    seen = 0
    for count, token in enumerate(token_ids):
        if seen >= length:
            return count
        seen += len(characters.decode(tokenizer.token_bytes(token, skip_special_tokens=skip_special_tokens)))
    return len(token_ids)


def left_open(text: str, marks: Marks = THINK) -> bool:
    """Whether the beginning of a message is reasoning that goes on."""
    return text.lstrip().startswith(marks.open) and marks.close not in text
