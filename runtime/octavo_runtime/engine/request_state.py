"""What the engine keeps of a request until it ends."""

from dataclasses import dataclass, field

from octavo_runtime.engine.beams import Beams
from octavo_runtime.engine.request import Request, Sequence
from octavo_runtime.protocol.messages import FinishReason, Output, RequestError
from octavo_runtime.protocol.step import Sample, TokenLogprobs


@dataclass(eq=False, slots=True)
class RequestState:
    """A request with the sequences of its answers that have not ended, or its beams. `queued`: seconds from its arrival
    to its first step. `first_output_sent`: whether an output has carried what comes once a request."""

    request: Request
    sequences: list[Sequence]
    beams: Beams | None = None
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    queued: float | None = None
    first_output_sent: bool = False

    @property
    def live(self) -> list[Sequence]:
        """Its sequences in the scheduler."""
        return self.sequences if self.beams is None else self.beams.live

    @property
    def has_forked(self) -> bool:
        """Whether each answer is a sequence of its own by now."""
        return self.beams is None and self.sequences[0].draws == [self.sequences[0].index]

    def output(self, sequence: Sequence, sample: Sample, reason: FinishReason | None) -> Output:
        """One more token of an answer."""
        tokens, logprobs = [sample.token_id], None if sample.logprobs is None else [sample.logprobs]
        if self.first_output_sent:
            return Output(self.request.id, tokens, reason, sequence.index, logprobs)
        self.first_output_sent = True
        wants_scores = self.request.params.prompt_logprobs is not None
        return Output(
            self.request.id,
            tokens,
            reason,
            sequence.index,
            logprobs,
            self.prompt_logprobs if wants_scores else None,
            sequence.cached_tokens,
            queued=self.queued,
        )

    def embedding(self, sequence: Sequence, embedding: bytes) -> Output:
        """The answer to a request for an embedding."""
        return Output(
            self.request.id,
            [],
            "stop",
            cached_tokens=sequence.cached_tokens,
            embedding=embedding,
            queued=self.queued,
        )

    def failure(self, error: RequestError) -> Output:
        """The end of all its answers."""
        return Output(self.request.id, [], "error", error=error)
