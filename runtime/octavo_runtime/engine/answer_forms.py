"""Answers that must have a form: their grammars compile before they start, and allow each next token."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from octavo_runtime.engine.request import Sequence
from octavo_runtime.engine.request_state import RequestState
from octavo_runtime.engine.scheduler import Schedule
from octavo_runtime.protocol.messages import RequestError
from octavo_runtime.protocol.reason import as_text
from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.protocol.step import Masks
from octavo_runtime.structured.grammars import Grammar, GrammarFailed, Grammars, GrammarsBusy
from octavo_runtime.structured.pending import PendingGrammars
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable


class AnswerForms:
    """`grammar_of`: the grammars of the answers under way that have one. And the requests that wait for theirs; `len`:
    how many."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._compiling: PendingGrammars[RequestState] = PendingGrammars()
        self.grammar_of: dict[Sequence, Grammar] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="masks")

    def __len__(self) -> int:
        return len(self._compiling)

    def compile(self, structured: StructuredOutput) -> Grammar:
        """Raises InvalidParameter, GrammarsBusy and TokenizerUnavailable."""
        return self._grammars.compile(structured).result()

    def wait(self, state: RequestState, structured: StructuredOutput) -> None:
        """A request waits until its grammar has compiled."""
        self._compiling.add(state, self._grammars.compile(structured))

    def discard(self, state: RequestState) -> bool:
        """A request waits no more; whether it did."""
        return self._compiling.discard(state)

    def compiled(self, wait_seconds: float) -> Iterator[tuple[RequestState, RequestError | None]]:
        """The requests whose answers can start, or why they cannot. Waits for the first one at most so long."""
        for state, compiled in self._compiling.take_done(wait_seconds):
            try:
                grammar = compiled.result()
            except (InvalidParameter, GrammarsBusy, TokenizerUnavailable) as error:
                yield state, _refusal(error)
            else:
                [first] = state.sequences
                self.grammar_of[first] = grammar
                yield state, None

    def begin(self, sequence: Sequence, grammar: Grammar) -> None:
        """An answer starts under a grammar, which stays as it is."""
        self.grammar_of[sequence] = grammar.fork()

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """The child's answer has the parent's form, if any, and goes on from there."""
        if parent in self.grammar_of:
            self.grammar_of[child] = self.grammar_of[parent].fork()

    def accept(self, sequence: Sequence, token: int) -> RequestError | None:
        """An answer that must have a form goes on with a token; why it cannot, if so."""
        try:
            self.grammar_of[sequence].accept([token])
        except GrammarFailed as error:
            return _refusal(InvalidParameter("structured_outputs", f"cannot be met: {error}"))
        return None

    def drop(self, sequence: Sequence) -> None:
        """An answer has ended."""
        self.grammar_of.pop(sequence, None)

    def masks(self, schedule: Schedule) -> Future[Masks] | None:
        """The tokens that may be drawn in a step, worked out while the device computes; None where all may."""
        if not self.grammar_of:
            return None
        drawing = [
            (self.grammar_of.get(sequence), len(item.draws))
            for sequence, item in zip(schedule.sequences, schedule.plan.slices, strict=True)
            if item.draws
        ]
        if not any(grammar for grammar, _ in drawing):
            return None
        return self._thread.submit(self._fill, drawing)

    def _fill(self, drawing: list[tuple[Grammar | None, int]]) -> Masks:
        # A sequence that is about to fork draws several tokens from one state.
        masks = self._grammars.fill_masks([grammar for grammar, _ in drawing])
        return np.repeat(masks, [draws for _, draws in drawing], axis=0)


def _refusal(error: InvalidParameter | GrammarsBusy | TokenizerUnavailable) -> RequestError:
    """Why an answer cannot have its form."""
    match error:
        case GrammarsBusy():
            return RequestError("overloaded", str(error))
        case InvalidParameter():
            return RequestError("invalid", as_text(error.reason), error.field)
        case _:
            return _refusal(InvalidParameter("structured_outputs", f"needs the tokenizer: {error}"))
