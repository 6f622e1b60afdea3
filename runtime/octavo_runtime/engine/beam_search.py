"""Beam search over the likeliest tokens of each beam. Pure: scores and token ids in, beams out.

The rules are those of transformers' `generate(num_beams=...)`: of the candidates of all beams the best `width` that do
not end live on; one that ends is kept where it is among the best `width` of its step; a kept answer's score is the sum
of its log-probabilities / length ** length_penalty; and the search ends when no live beam can better the kept ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from octavo_runtime.protocol.step import TokenLogprobs


@dataclass(frozen=True)
class Candidate:
    """A beam (its place among the live ones) with one more token. `log_prob`: the sum over its answer."""

    beam: int
    token_id: int
    log_prob: float


@dataclass(frozen=True)
class Hypothesis:
    """A complete answer. `score`: its log-probability under the length penalty; `stopped`: by an end token."""

    token_ids: list[int]
    score: float
    stopped: bool


@dataclass
class BeamSearch:
    """The search for one request. `done`: nothing can better the `finished` answers, which are sorted best first."""

    width: int
    length_penalty: float
    early_stopping: bool
    finished: list[Hypothesis] = field(default_factory=list)
    done: bool = False

    def advance(
        self,
        answers: Sequence[list[int]],
        log_probs: Sequence[float],
        tops: Sequence[TokenLogprobs],
        is_end: Callable[[int], bool],
        *,
        is_last: bool,
    ) -> list[Candidate]:
        """One token more for the live beams; those that live on, best first.

        answers: each beam's generated tokens, all of one length. log_probs: their sums. tops: the likeliest next tokens
        behind the first entry. is_last: the length limit is reached, so every candidate ends."""
        candidates = sorted(
            (
                Candidate(beam, token, log_prob + more)
                for beam, (log_prob, top) in enumerate(zip(log_probs, tops, strict=True))
                for token, more in zip(top.token_ids[1:], top.logprobs[1:], strict=True)
            ),
            key=lambda one: -one.log_prob,
        )
        length = len(answers[0]) + 1
        for one in candidates[: self.width]:
            if is_last or is_end(one.token_id):
                answer = [*answers[one.beam], one.token_id]
                self.finished.append(
                    Hypothesis(answer, one.log_prob / length**self.length_penalty, is_end(one.token_id))
                )
        self.finished = sorted(self.finished, key=lambda one: -one.score)[: self.width]
        live = [] if is_last else [one for one in candidates if not is_end(one.token_id)][: self.width]
        self.done = not live or (
            len(self.finished) == self.width
            and (self.early_stopping or live[0].log_prob / length**self.length_penalty <= self.finished[-1].score)
        )
        return [] if self.done else live
