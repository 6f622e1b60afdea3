"""From the engine's outputs to text: all the answers to one prompt, as they grow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from octavo_runtime.protocol.messages import FinishReason, Output, RequestError
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams
from octavo_runtime.protocol.step import TokenLogprobs
from octavo_runtime.text.detokenizer import Detokenizer, Preamble
from octavo_runtime.text.tokenizer import Tokenizer


class RequestFailed(RuntimeError):
    """The engine ended a request without an answer: its queue was full, or its time was over. `error` says which."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass
class CompletionOutput:
    """One answer so far. token_ids: all tokens, an end-of-sequence or stop token included. stop_reason: the stop string
    or token that ended it. logprobs: one entry a token, where asked for; cumulative_logprob: their sum, known with
    best_of too. score: of a complete beam."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    cumulative_logprob: float | None = None
    score: float | None = None


@dataclass
class RequestOutput:
    """A prompt and its answers. request_id: the engine's name for them. prompt: its text, where it came as text.
    cached_tokens: tokens of the prompt that the prefix cache held. prompt_logprobs: where asked for, one entry for each
    prompt token behind the first. error: why those of its answers ended whose finish_reason is "error"."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = False
    cached_tokens: int = 0
    prompt_logprobs: list[TokenLogprobs] | None = None
    error: RequestError | None = None


@dataclass(frozen=True)
class Delta:
    """What an output brought to the answer `index`. stop_reason: what ended it, as in CompletionOutput."""

    index: int
    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprobs] | None
    finish_reason: FinishReason | None
    stop_reason: str | int | None
    stopped: bool = False  # by a stop string, which the engine knows nothing of


class Answers:
    """The answers to one prompt under `params`. Where one meets a stop string its tokens under way are dropped, and the
    caller aborts it in the engine (`Delta.stopped`). preamble: makes what tells each answer's Detokenizer where stop
    strings begin to count; None: at once."""

    def __init__(
        self, tokenizer: Tokenizer, params: SamplingParams, preamble: Callable[[], Preamble] | None = None
    ) -> None:
        self.cached_tokens = 0
        self.prompt_logprobs: list[TokenLogprobs] | None = None
        self.error: RequestError | None = None
        self._params = params
        self._all: dict[int, CompletionOutput] = {}
        self._num_ended = 0
        self._detokenizers: dict[int, Detokenizer] = {}
        self._tokenizer = tokenizer
        self._preamble = preamble

    @property
    def finished(self) -> bool:
        """Whether no answer grows any more."""
        return self._num_ended == self._params.num_answers

    def add(self, output: Output) -> Delta | None:
        """Takes an output without an error; None where its answer has ended already."""
        if output.index not in self._all:
            self._all[output.index] = CompletionOutput(
                output.index, logprobs=[] if self._params.logprobs is not None else None
            )
            self._detokenizers[output.index] = Detokenizer(
                self._tokenizer,
                self._params.stop,
                skip_special_tokens=self._params.skip_special_tokens,
                include_stop=self._params.include_stop_str_in_output,
                min_tokens=self._params.min_tokens,
                preamble=None if self._preamble is None else self._preamble(),
            )
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        self.prompt_logprobs = output.prompt_logprobs or self.prompt_logprobs
        answer, detokenizer = self._all[output.index], self._detokenizers[output.index]
        if answer.finish_reason is not None:
            return None
        text = detokenizer.add(
            output.token_ids,
            finished=output.finish_reason is not None,
            stopped_by_token=output.finish_reason == "stop",
        )
        answer.text += text
        answer.token_ids += output.token_ids
        answer.score = output.score
        if output.logprobs is not None:
            gained = sum(entry.logprobs[0] for entry in output.logprobs)
            answer.cumulative_logprob = (answer.cumulative_logprob or 0.0) + gained
            if answer.logprobs is not None:
                answer.logprobs += output.logprobs
        if detokenizer.stop is not None:
            answer.finish_reason, answer.stop_reason = "stop", detokenizer.stop
        else:
            answer.finish_reason = output.finish_reason
            if output.finish_reason == "stop" and output.token_ids[-1] in self._params.stop_token_ids:
                answer.stop_reason = output.token_ids[-1]
        self._num_ended += answer.finish_reason is not None
        stopped = detokenizer.stop is not None and output.finish_reason is None
        return Delta(
            answer.index,
            text,
            output.token_ids,
            output.logprobs,
            answer.finish_reason,
            answer.stop_reason,
            stopped,
        )

    def fail(self, error: RequestError) -> None:
        """Takes an output with an error: it ends every answer that still grows, as it stands."""
        self.error = error
        for index in range(self._params.num_answers):
            answer = self._all.setdefault(index, CompletionOutput(index))
            if answer.finish_reason is None:
                answer.finish_reason = "error"
                answer.text += self._detokenizers[index].flush() if index in self._detokenizers else ""
        self._num_ended = self._params.num_answers

    def request_output(self, request_id: str, prompt: str | None, prompt_token_ids: list[int]) -> RequestOutput:
        """All of it as it stands."""
        return RequestOutput(
            request_id,
            prompt,
            prompt_token_ids,
            self.best(),
            self.finished,
            self.cached_tokens,
            self.prompt_logprobs,
            self.error,
        )

    @property
    def all(self) -> list[CompletionOutput]:
        """Every answer, in order, those that will not count too."""
        return [self._all[index] for index in sorted(self._all)]

    def best(self) -> list[CompletionOutput]:
        """The answers that count, in order; once all are finished, with best_of above n, the n of highest mean
        log-probability, best first."""
        answers = self.all
        if self._params.num_answers == self._params.n or not self.finished:
            return answers
        ranked = sorted(answers, key=_mean_logprob, reverse=True)[: self._params.n]
        return [replace(answer, index=index) for index, answer in enumerate(ranked)]


def request_exception(error: RequestError) -> Exception:
    """InvalidParameter where the requester is at fault, else RequestFailed."""
    if error.kind == "invalid":
        return InvalidParameter(error.field or "request", error.reason)
    return RequestFailed(error)


def _mean_logprob(answer: CompletionOutput) -> float:
    return (answer.cumulative_logprob or 0.0) / max(len(answer.token_ids), 1)
