"""One chat answer, from the model's text to what a client reads: reasoning, content and calls of functions."""

import secrets
from collections.abc import Sequence

from octavo_runtime.server.openai.chunks import ChatDelta, FunctionDelta, ToolCallDelta
from octavo_runtime.server.openai.objects import AssistantMessage, FunctionCall, ToolCall
from octavo_runtime.server.reasoning.splitter import ReasoningSplitter, tokens_within
from octavo_runtime.server.tools import arguments
from octavo_runtime.server.tools.call_parser import CallParser, CallStart, Content, Event
from octavo_runtime.tokenizer import Tokenizer


class AnswerReader:
    """Reads one answer, whole or as it comes: what comes out, put together, is the same.

    splitter, parser: None where the answer cannot reason, or call. parallel: whether more than the first call counts.
    show_reasoning: whether the client wants it. id_length: of the calls' ids; any where it is None."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        splitter: ReasoningSplitter | None,
        parser: CallParser | None,
        *,
        skip_special_tokens: bool,
        parallel: bool,
        show_reasoning: bool,
        id_length: int | None,
    ) -> None:
        self.reasoning_tokens = 0
        self._tokenizer = tokenizer
        self._splitter = splitter
        self._parser = parser
        self._skip_special_tokens = skip_special_tokens
        self._parallel = parallel
        self._show_reasoning = show_reasoning
        self._id_length = id_length
        self._token_ids: list[int] | None = []  # while it may reason
        self._arguments: list[list[str]] = []  # of each call that was told, in pieces

    @property
    def called(self) -> bool:
        """Whether there are calls so far, and each is whole."""
        return bool(self._arguments) and all(arguments.whole("".join(one)) is not None for one in self._arguments)

    def add(self, text: str, token_ids: Sequence[int], *, finished: bool) -> list[ChatDelta]:
        """What new text and tokens bring, in order; mostly one thing or nothing. finished: the answer ends here."""
        deltas = []
        if self._splitter is not None:
            reasoning, text = self._splitter.add(text, finished=finished)
            self._count(self._splitter, token_ids)
            if reasoning and self._show_reasoning:
                deltas.append(ChatDelta(reasoning=reasoning, reasoning_content=reasoning))
        events: list[Event] = [Content(text)] if text else []
        if self._parser is not None:
            events = self._parser.add(text, finished=finished)
        for event in events:
            self._write(event, deltas)
        return deltas

    def message(self, text: str, token_ids: Sequence[int]) -> AssistantMessage:
        """The message of a whole answer."""
        deltas = self.add(text, token_ids, finished=True)
        content = "".join(delta.content or "" for delta in deltas)
        reasoning = "".join(delta.reasoning or "" for delta in deltas)
        calls: list[ToolCall] = []
        for piece in (call for delta in deltas for call in delta.tool_calls or ()):
            if piece.id is not None:
                function = FunctionCall(name=piece.function.name or "", arguments=piece.function.arguments or "")
                calls.append(ToolCall(id=piece.id, function=function))
            else:
                calls[piece.index].function.arguments += piece.function.arguments or ""
        return AssistantMessage(
            content=content if content or not (reasoning or calls) else None,
            reasoning=reasoning or None,
            reasoning_content=reasoning or None,
            tool_calls=calls,
        )

    def _count(self, splitter: ReasoningSplitter, token_ids: Sequence[int]) -> None:
        if self._token_ids is None:
            return
        self._token_ids += token_ids
        self.reasoning_tokens = len(self._token_ids)
        if splitter.length is not None:
            self.reasoning_tokens = tokens_within(
                self._tokenizer, self._token_ids, splitter.length, skip_special_tokens=self._skip_special_tokens
            )
            self._token_ids = None

    def _write(self, event: Event, deltas: list[ChatDelta]) -> None:
        """Puts an event into the last delta, or into a new one where their order would be lost."""
        if isinstance(event, Content):
            if not deltas or deltas[-1].tool_calls is not None:
                deltas.append(ChatDelta(content=""))
            deltas[-1].content = (deltas[-1].content or "") + event.text
            return
        if event.call > 0 and not self._parallel:
            return
        if not deltas:
            deltas.append(ChatDelta())
        calls = deltas[-1].tool_calls = deltas[-1].tool_calls or []
        if isinstance(event, CallStart):
            function = FunctionDelta(name=event.name, arguments="")
            calls.append(ToolCallDelta(event.call, function, id=self._new_id(), type="function"))
            self._arguments.append([])
            return
        self._arguments[-1].append(event.text)
        if calls and calls[-1].index == event.call:
            calls[-1].function.arguments = (calls[-1].function.arguments or "") + event.text
        else:
            calls.append(ToolCallDelta(event.call, FunctionDelta(arguments=event.text)))

    def _new_id(self) -> str:
        if self._id_length is None:
            return f"call_{secrets.token_hex(12)}"
        return secrets.token_hex(self._id_length)[: self._id_length]
