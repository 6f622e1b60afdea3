"""The beams of one request as sequences of the scheduler: each step they wait for each other, then fork or end."""

from dataclasses import dataclass, field

from octavo_runtime.engine.beam_search import BeamSearch, Candidate
from octavo_runtime.engine.request import Request, Sequence
from octavo_runtime.engine.scheduler import Scheduler
from octavo_runtime.protocol.messages import Output
from octavo_runtime.protocol.step import TokenLogprobs


@dataclass
class Beams:
    """The live beams of `request`, best first, with the sums of their log-probabilities. `tops`: the likeliest next
    tokens of those that have been computed in this round; the scheduler holds them until all of them have."""

    request: Request
    live: list[Sequence]
    search: BeamSearch
    end_tokens: frozenset[int]
    max_model_len: int
    log_probs: list[float] = field(default_factory=lambda: [0.0])
    tops: dict[Sequence, TokenLogprobs] = field(default_factory=dict)
    num_forks: int = 0

    def take(self, sequence: Sequence, top: TokenLogprobs, scheduler: Scheduler) -> None:
        """One beam's next tokens are known. When it was the last one, the best beams go on in the scheduler and the
        others leave it; at the end of the search all do."""
        self.tops[sequence] = top
        scheduler.hold(sequence)
        if len(self.tops) < len(self.live):
            return
        chosen = self.search.advance(
            [one.tokens[self.request.prompt_len :] for one in self.live],
            self.log_probs,
            [self.tops[one] for one in self.live],
            self.end_tokens.__contains__,
            is_last=sequence.generated + 1 >= self.request.max_tokens or sequence.known + 1 >= self.max_model_len,
        )
        self._go_on(chosen, scheduler)

    def outputs(self, cached_tokens: int, queued: float | None) -> list[Output]:
        """The best answers, once the search is done."""
        return [
            Output(
                self.request.id,
                one.token_ids,
                "stop" if one.stopped else "length",
                index=index,
                cached_tokens=cached_tokens,
                score=one.score,
                queued=queued,
            )
            for index, one in enumerate(self.search.finished[: self.request.params.n])
        ]

    def _go_on(self, chosen: list[Candidate], scheduler: Scheduler) -> None:
        parents = [self.live[one.beam] for one in chosen]
        for sequence in self.live:
            if sequence not in parents:
                scheduler.remove(sequence)
        live: list[Sequence] = []
        for parent in parents:
            live.append(self._fork(parent, scheduler) if parent in live else parent)
        for sequence, candidate in zip(live, chosen, strict=True):  # after the forks, which copy the parents' tokens
            sequence.learn(candidate.token_id)
            if sequence in self.live:
                scheduler.resume(sequence)
        self.live, self.log_probs, self.tops = live, [one.log_prob for one in chosen], {}

    def _fork(self, parent: Sequence, scheduler: Scheduler) -> Sequence:
        self.num_forks += 1
        child = parent.fork(self.num_forks)
        scheduler.fork(parent, child)
        return child
