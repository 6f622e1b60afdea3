"""Answers of a given form: which tokens each of them may take next."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import cached_property

import numpy as np
from llguidance import LLExecutor, LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par
from numpy.typing import NDArray

from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.structured.compiler import Vocabulary, build_tokenizer, check_size, compile_matcher
from octavo_runtime.structured.trial import GrammarTrial
from octavo_runtime.text.tokenizer import Tokenizer

MAX_COMPILED = 64
MAX_PENDING = 64


class GrammarsBusy(Exception):
    """Too many grammars wait to be compiled; try again later."""


class GrammarFailed(Exception):
    """One answer cannot go on under its grammar: a token that it does not allow, or a step that costs too much."""


class Grammar:
    """How far one answer has come in its grammar. For one thread at a time."""

    __slots__ = ("matcher",)

    def __init__(self, matcher: LLMatcher) -> None:
        self.matcher = matcher

    def fork(self) -> "Grammar":
        """A second answer that goes on from here."""
        return Grammar(self.matcher.deep_copy())

    def accept(self, token_ids: Sequence[int]) -> None:
        """The answer goes on with these tokens; GrammarFailed at the first that is not allowed, and at any token once
        the grammar has failed."""
        if failure := self.failure:
            raise failure
        for token in token_ids:
            if not self.matcher.consume_token(token):
                raise self.failure or GrammarFailed(f"the answer has ended, got token {token}")

    @property
    def finished(self) -> bool:
        """Whether nothing but an end-of-sequence token may follow."""
        return self.matcher.is_stopped() and not self.matcher.is_error()

    @property
    def failure(self) -> GrammarFailed | None:
        """Why the answer cannot go on, if so; fill_masks may set it. Its mask then allows the end alone."""
        if not self.matcher.is_error():
            return None
        return GrammarFailed(" ".join(self.matcher.get_error().split("\n", 1)[0].split()))


class Grammars:
    """Compiles grammars for one model, and tells which tokens they allow.

    Nothing is built before the first request that needs it. `compile` may be called from any thread, fill_masks from
    one at a time."""

    def __init__(self, load_tokenizer: Callable[[], Tokenizer], vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        """`load_tokenizer` is called once, in the thread that compiles. `vocab_size`: the width of the model's logits.
        `eos_token_ids`: the tokens that end an answer."""
        self._load_tokenizer = load_tokenizer
        self._vocab_size = vocab_size
        self._eos_token_ids = [token for token in eos_token_ids if 0 <= token < vocab_size]
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(MAX_PENDING)
        self._compiled: OrderedDict[StructuredOutput, Future[LLMatcher]] = OrderedDict()
        # One thread, for the trial process works on one grammar at a time.
        self._thread = ThreadPoolExecutor(1, "grammars")

    def compile(self, structured: StructuredOutput) -> "Future[Grammar]":
        """A Grammar at its start, compiled in another thread.

        Ends with InvalidParameter when the source is malformed or costs more than the limits, with GrammarsBusy when
        MAX_PENDING others wait or no process can start. The last MAX_COMPILED outcomes are kept, refusals too."""
        answer: Future[Grammar] = Future()
        answer.set_running_or_notify_cancel()
        try:
            if not self._eos_token_ids:
                raise InvalidParameter("structured_outputs", "must be unset: the model has no end-of-sequence token")
            check_size(structured)
            compiled = self._compiled_once(structured)
        except (InvalidParameter, GrammarsBusy) as error:
            answer.set_exception(error)
        else:
            compiled.add_done_callback(lambda done: _pass_on(done, answer))
        return answer

    def fill_masks(self, grammars: Sequence[Grammar | None]) -> NDArray[np.int32]:
        """Which tokens may come next, int32 [len(grammars), ceil(vocab_size / 32)]: bit t % 32 of word t // 32 is
        token t. All ones without a grammar; the end alone where a Grammar is finished or, from now on, has a failure.

        The GIL is free meanwhile: a thread can do this during the model's forward pass."""
        masks = allocate_token_bitmask(len(grammars), self._vocab_size)
        rows = [(grammar.matcher, row) for row, grammar in enumerate(grammars) if grammar is not None]
        if rows:
            fill_next_token_bitmask_par(self._executor, rows, masks)
        return masks

    def close(self) -> None:
        """Ends the thread and the process; what was not compiled yet ends as cancelled."""
        self._thread.shutdown(cancel_futures=True)
        if "_trial" in self.__dict__:
            self._trial.close()

    def _compiled_once(self, structured: StructuredOutput) -> "Future[LLMatcher]":
        with self._lock:
            if structured in self._compiled:
                self._compiled.move_to_end(structured)
                return self._compiled[structured]
            if not self._room.acquire(blocking=False):
                raise GrammarsBusy(f"at most {MAX_PENDING} grammars may wait to be compiled")
            compiled = self._thread.submit(self._compile, structured)
            compiled.add_done_callback(lambda _: self._room.release())
            self._compiled[structured] = compiled
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
            return compiled

    def _compile(self, structured: StructuredOutput) -> LLMatcher:
        try:
            text = self._trial.compile(structured)
        except OSError as error:
            with self._lock:
                self._compiled.pop(structured, None)  # the next one may find room for a process
            raise GrammarsBusy(f"no process to compile a grammar: {error}") from None
        return compile_matcher(self._prefix_tree, structured, text)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        ids, tokenizer = range(self._vocab_size), self._load_tokenizer()
        return Vocabulary(
            tokens=[tokenizer.token_bytes(token, skip_special_tokens=False) for token in ids],
            special_ids=[token for token in {*tokenizer.special_ids, *self._eos_token_ids} if token in ids],
            eos_token_ids=self._eos_token_ids,
        )

    @cached_property
    def _prefix_tree(self) -> LLTokenizer:
        return build_tokenizer(self._vocabulary)

    @cached_property
    def _trial(self) -> GrammarTrial:
        return GrammarTrial(self._vocabulary)

    @cached_property
    def _executor(self) -> LLExecutor:
        return LLExecutor()


def _pass_on(done: "Future[LLMatcher]", answer: "Future[Grammar]") -> None:
    if done.cancelled():
        answer.set_exception(CancelledError())
    elif error := done.exception():
        answer.set_exception(error)
    else:
        answer.set_result(Grammar(done.result().deep_copy()))
