"""The requests that have not ended: how each begins and ends."""

from collections.abc import Iterable

from octavo_runtime.engine.answer_forms import AnswerForms
from octavo_runtime.engine.deadlines import Deadlines
from octavo_runtime.engine.request import Sequence
from octavo_runtime.engine.request_state import RequestState
from octavo_runtime.engine.scheduler import Scheduler
from octavo_runtime.protocol.messages import Output, RequestError
from octavo_runtime.protocol.sampling_params import InvalidParameter


class LiveRequests:
    """`states`: by their ids, from their arrival until each of their answers has left the scheduler."""

    def __init__(self, scheduler: Scheduler, forms: AnswerForms, deadlines: Deadlines) -> None:
        self._scheduler = scheduler
        self._forms = forms
        self._deadlines = deadlines
        self.states: dict[str, RequestState] = {}

    def check_new(self, request_id: str) -> None:
        """Raises InvalidParameter where a request of this id has not ended."""
        if request_id in self.states:
            raise InvalidParameter("request_id", f"must be new, got {request_id!r} again")

    def begin(self, state: RequestState) -> None:
        """A request arrives."""
        self.states[state.request.id] = state
        self._deadlines.watch(state)

    def note_start(self, sequences: Iterable[Sequence], now: float) -> None:
        """These take part in a step that was planned `now`: how long those that have just started had to wait."""
        for sequence in sequences:
            state = self.states[sequence.request.id]
            if state.queued is None:
                state.queued = now - state.request.arrived

    def end_answer(self, state: RequestState, sequence: Sequence) -> None:
        """One answer has ended; with the last one its request has."""
        self._scheduler.remove(sequence)
        self._forms.drop(sequence)
        state.sequences.remove(sequence)
        if not state.sequences:
            self.forget(state)

    def end(self, state: RequestState) -> None:
        """A request ends with all its answers, in any state."""
        self.forget(state)
        if self._forms.discard(state):
            return
        for sequence in state.live:
            self._scheduler.remove(sequence)
            self._forms.drop(sequence)

    def fail(self, state: RequestState, error: RequestError) -> Output:
        """A request ends by an error."""
        self.end(state)
        return state.failure(error)

    def forget(self, state: RequestState) -> None:
        """A request has ended, and nothing of it is in the scheduler."""
        del self.states[state.request.id]
        self._deadlines.forget(state)
