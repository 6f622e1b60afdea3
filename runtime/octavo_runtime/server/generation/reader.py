"""One chat answer, from the model's text to what a client reads: reasoning, content and calls of functions."""

import secrets
from collections.abc import Sequence

from octavo_runtime.server.generation.pieces import ArgumentsDelta, Delta, ReasoningDelta, TextDelta, ToolCallStart
from octavo_runtime.server.reasoning.splitter import ReasoningSplitter, tokens_within
from octavo_runtime.server.tools import arguments
from octavo_runtime.server.tools.channel_parser import ChannelParser
from octavo_runtime.server.tools.event import CallStart, Content, Event, Parser, Thought
from octavo_runtime.text.tokenizer import Tokenizer


class AnswerReader:
    """Reads one answer, whole or as it comes: what comes out, put together, is the same.

    splitter, parser: None where the answer cannot reason, or call. parallel: whether more than the first call counts.
    show_reasoning: whether the client wants it. id_length: of the calls' ids; any where it is None."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        splitter: ReasoningSplitter | None,
        parser: Parser | None,
        *,
        skip_special_tokens: bool,
        parallel: bool,
        show_reasoning: bool,
        id_length: int | None,
    ) -> None:
        self._tokenizer = tokenizer
        self._splitter = splitter
        self._parser = parser
        self._skip_special_tokens = skip_special_tokens
        self._parallel = parallel
        self._show_reasoning = show_reasoning
        self._id_length = id_length
        self._token_ids: list[int] = []  # while it may reason
        self._reasoning_tokens: int | None = None  # once it does no more
        self._arguments: list[list[str]] = []  # of each call that was told, in pieces

    @property
    def called(self) -> bool:
        """Whether there are calls so far, and each is whole."""
        return bool(self._arguments) and all(arguments.whole("".join(one)) is not None for one in self._arguments)

    def add(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[Delta]:
        """What new text and tokens bring, in order; mostly one thing or nothing. finished: the answer ends here."""
        deltas: list[Delta] = []
        if self._splitter is not None:
            reasoning, text = self._splitter.add(text, finished=finished)
            if reasoning and self._show_reasoning:
                deltas.append(ReasoningDelta(reasoning))
        self._count(token_ids)
        if self._parser is not None:
            deltas += self._read(self._parser.add(text, finished=finished))
        elif text:
            deltas.append(TextDelta(text))
        return deltas

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens of the answer so far are reasoning, with its marks."""
        if self._reasoning_tokens is not None:
            return self._reasoning_tokens
        if isinstance(self._parser, ChannelParser):
            return sum(self._tokens_within(end) - self._tokens_within(begin) for begin, end in self._parser.thoughts)
        return len(self._token_ids)

    def _count(self, token_ids: Sequence[int]) -> None:
        if self._splitter is None and not isinstance(self._parser, ChannelParser):
            return
        if self._reasoning_tokens is None:
            self._token_ids += token_ids
            if self._splitter is not None and self._splitter.length is not None:
                self._reasoning_tokens = self._tokens_within(self._splitter.length)

    def _tokens_within(self, length: int | None) -> int:
        """How many tokens begin in the first characters; None: in all."""
        if length is None:
            return len(self._token_ids)
        skip = self._skip_special_tokens
        return tokens_within(self._tokenizer, self._token_ids, length, skip_special_tokens=skip)

    def _read(self, events: Sequence[Event]) -> list[Delta]:
        """The parser's events, those of one kind in a row as one delta."""
        deltas: list[Delta] = []
        for event in events:
            last = deltas[-1] if deltas else None
            if isinstance(event, Content):
                if isinstance(last, TextDelta):
                    last.text += event.text
                else:
                    deltas.append(TextDelta(event.text))
            elif isinstance(event, Thought):
                if self._show_reasoning:
                    deltas.append(ReasoningDelta(event.text))
            elif event.call > 0 and not self._parallel:
                continue
            elif isinstance(event, CallStart):
                self._arguments.append([])
                deltas.append(ToolCallStart(event.call, self._new_id(), event.name))
            else:
                self._arguments[-1].append(event.text)
                if isinstance(last, ArgumentsDelta):
                    last.json += event.text
                else:
                    deltas.append(ArgumentsDelta(event.call, event.text))
        return deltas

    def _new_id(self) -> str:
        if self._id_length is None:
            return f"call_{secrets.token_hex(12)}"
        return secrets.token_hex(self._id_length)[: self._id_length]
