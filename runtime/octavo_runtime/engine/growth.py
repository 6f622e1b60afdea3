"""What a step brought, taken in: each answer gets its token, and forks or ends."""

from octavo_runtime.engine.answer_forms import AnswerForms
from octavo_runtime.engine.beams import Beams
from octavo_runtime.engine.live_requests import LiveRequests
from octavo_runtime.engine.request import Sequence
from octavo_runtime.engine.request_state import RequestState
from octavo_runtime.engine.scheduler import Schedule, Scheduler
from octavo_runtime.protocol.messages import Output
from octavo_runtime.protocol.step import Sample, StepResult, TokenLogprobs


class Growth:
    """Grows the answers of the live requests. `eos`: the model's end-of-sequence tokens."""

    def __init__(self, live: LiveRequests, scheduler: Scheduler, forms: AnswerForms, eos: frozenset[int]) -> None:
        self._live = live
        self._scheduler = scheduler
        self._forms = forms
        self._eos = eos

    def grow(self, schedule: Schedule, result: StepResult) -> list[Output]:
        """Outputs for the requests that got tokens or ended. Sequences that ended meanwhile get nothing of it."""
        for index, scores in result.prompt_logprobs.items():
            self._take_scores(schedule.sequences[index], schedule.plan.slices[index].start, scores)
        outputs: list[Output] = []
        states = self._live.states
        slices = schedule.plan.slices
        for sequence, item, samples in zip(schedule.sequences, slices, result.samples, strict=True):
            if sequence.ended or not samples:
                continue
            state = states[sequence.request.id]
            if state.beams is not None:
                outputs += self._grow_beams(state, state.beams, sequence, samples[0])
            elif item.guesses:
                outputs += self._check(state, sequence, item.token_ids[-item.guesses :], samples)
            elif len(samples) == 1:
                outputs.append(self._append(state, sequence, samples[0]))
            else:
                outputs += self._fork(state, sequence, samples)
        for index, embedding in result.embeddings.items():
            sequence = schedule.sequences[index]
            if not sequence.ended:
                state = states[sequence.request.id]
                self._live.end_answer(state, sequence)
                outputs.append(state.embedding(sequence, embedding))
        return outputs

    def _take_scores(self, sequence: Sequence, start: int, scores: list[TokenLogprobs]) -> None:
        if sequence.ended:
            return
        state = self._live.states[sequence.request.id]
        if not state.first_output_sent:
            # A prompt that was preempted half-way is computed again from its start.
            state.prompt_logprobs[start:] = scores

    def _append(self, state: RequestState, sequence: Sequence, sample: Sample) -> Output:
        reason = sequence.learn(sample.token_id)
        if sequence in self._forms.grammar_of:
            if error := self._forms.accept(sequence, sample.token_id):
                return self._live.fail(state, error)
            if reason is None and sample.token_id in self._eos:
                reason = "stop"  # whatever ignore_eos says: the grammar lets nothing follow
        if reason is not None:
            self._live.end_answer(state, sequence)
        return state.output(sequence, sample, reason)

    def _check(
        self, state: RequestState, sequence: Sequence, guesses: list[int], samples: list[Sample]
    ) -> list[Output]:
        """The tokens drawn in front of each guess and behind the last one: those up to the first wrong guess are what
        would have been drawn one by one."""
        outputs = [self._append(state, sequence, samples[0])]
        for guess, drawn, following in zip(guesses, samples, samples[1:], strict=False):
            if sequence.ended or guess != drawn.token_id:
                break
            self._scheduler.accept(sequence)
            outputs.append(self._append(state, sequence, following))
        return outputs

    def _fork(self, state: RequestState, parent: Sequence, samples: list[Sample]) -> list[Output]:
        """A prompt's first tokens, one for each of its answers."""
        grown = [parent, *(parent.fork(index) for index in parent.take_draws()[1:])]
        for child in grown[1:]:
            self._scheduler.fork(parent, child)
            self._forms.fork(parent, child)
            state.sequences.append(child)
        outputs: list[Output] = []
        for one, sample in zip(grown, samples, strict=True):
            outputs.append(self._append(state, one, sample))
            if outputs[-1].error is not None:
                break  # it ended all of them
        return outputs

    def _grow_beams(self, state: RequestState, beams: Beams, sequence: Sequence, sample: Sample) -> list[Output]:
        assert sample.logprobs is not None
        beams.take(sequence, sample.logprobs, self._scheduler)
        if not beams.search.done:
            return []
        self._live.forget(state)
        return beams.outputs(sequence.cached_tokens, state.queued)
