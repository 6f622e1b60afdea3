"""Tokens to text as they come: whole characters only, and nothing of a stop string."""

import codecs
from collections.abc import Sequence
from typing import Protocol

from octavo_runtime.text.tokenizer import Tokenizer


class Preamble(Protocol):
    """Finds where the part of an answer ends in which stop strings do not count, such as reasoning."""

    def add(self, text: str, *, finished: bool) -> tuple[str, str]:
        """Takes the next piece of the answer; what is settled of it: text of that part, and text behind it."""


class Detokenizer:
    """Turns the tokens of one answer into text, at a cost linear in their number.

    The pieces that `add` and `flush` return, joined, do not depend on how the tokens were cut into calls. An answer
    goes on from its prompt, so a leading space is part of the text. Bytes that form no character become U+FFFD.

    include_stop: the stop string, or the stop token's own text, is part of the text. min_tokens: stop strings count
    only behind the text of that many tokens; and only behind the `preamble`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        *,
        skip_special_tokens: bool = True,
        include_stop: bool = False,
        min_tokens: int = 0,
        preamble: Preamble | None = None,
    ) -> None:
        self.stop: str | None = None
        """The stop string that was met. Nothing more is returned then; the caller ends the answer."""
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._include_stop = include_stop
        self._unstoppable = min_tokens if stop else 0  # tokens yet to come whose text cannot stop the answer
        self._preamble = preamble if stop else None
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._matches = [_Match(text) for text in stop]
        self._held = ""

    def add(self, token_ids: Sequence[int], *, finished: bool = False, stopped_by_token: bool = False) -> str:
        """The text that new tokens bring. Text that may begin a stop string is held back until that is settled.
        finished: no more tokens come. stopped_by_token: the last token ended the answer, and shows no text of its own
        unless include_stop."""
        shown = token_ids[:-1] if stopped_by_token and not self._include_stop else token_ids
        free, shown = shown[: self._unstoppable], shown[self._unstoppable :]
        self._unstoppable -= len(free)
        text = "".join(self._behind_preamble(self._decode(free))) + self._up_to_stop(self._decode(shown))
        return text + self.flush() if finished else text

    def flush(self) -> str:
        """The text still held back. The answer is over."""
        text = self._up_to_stop(self._characters.decode(b"", final=True), finished=True) + self._held
        self._held = ""
        return text

    def _decode(self, token_ids: Sequence[int]) -> str:
        skip = self._skip_special_tokens
        pieces = [self._tokenizer.token_bytes(token, skip_special_tokens=skip) for token in token_ids]
        return self._characters.decode(b"".join(pieces))

    def _behind_preamble(self, text: str, *, finished: bool = False) -> tuple[str, str]:
        return ("", text) if self._preamble is None else self._preamble.add(text, finished=finished)

    def _up_to_stop(self, text: str, *, finished: bool = False) -> str:
        if self.stop is not None:
            return ""
        if not self._matches:
            return text
        free, text = self._behind_preamble(text, finished=finished)
        return free + self._matched(text)

    def _matched(self, text: str) -> str:
        pending = self._held + text
        for position, character in enumerate(text, start=len(self._held) + 1):
            complete = [match for match in self._matches if match.advance(character)]
            if complete:
                longest = max(complete, key=lambda match: len(match.text))
                self.stop = longest.text
                self._held = ""
                return pending[: position if self._include_stop else position - len(longest.text)]
        shown = len(pending) - max(match.matched for match in self._matches)
        self._held = pending[shown:]
        return pending[:shown]


class _Match:
    """How much of a stop string the text ends with (Knuth, Morris, Pratt 1977: constant cost per character)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        # fallback[n]: the longest proper prefix of text that text[:n] also ends with.
        self._fallback = [0, 0]
        for character in text[1:]:
            self._fallback.append(self._next(self._fallback[-1], character))

    def advance(self, character: str) -> bool:
        """Takes one more character; True when the stop string is complete."""
        self.matched = self._next(self.matched, character)
        return self.matched == len(self.text)

    def _next(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._fallback[matched]
        return matched + 1 if self.text[matched] == character else 0
