"""When requests must have started, and when they must have ended. Free of torch."""

from collections.abc import Iterator

from octavo_runtime.engine.ordered_queue import OrderedQueue
from octavo_runtime.engine.request_state import RequestState
from octavo_runtime.protocol.messages import RequestError


class Deadlines:
    """The next moment of each request with a limit, by the engine's clock. `queue_timeout`: as configured, for what is
    told."""

    def __init__(self, queue_timeout: str | None) -> None:
        self._queue_timeout = queue_timeout
        self._moments: OrderedQueue[RequestState] = OrderedQueue()

    def watch(self, state: RequestState) -> None:
        """A request begins."""
        self._add(min(state.request.queue_deadline, state.request.deadline), state)

    def forget(self, state: RequestState) -> None:
        """A request has ended."""
        if state in self._moments:
            self._moments.remove(state)

    def expired(self, now: float) -> Iterator[tuple[RequestState, RequestError]]:
        """Those whose time is over, and why."""
        while self._moments and self._moments.first()[0] <= now:
            state = self._moments.pop()
            if now >= state.request.deadline:
                yield state, RequestError("deadline", "timeout: the request did not end within its time limit")
            elif not state.sequences[0].started:
                limit = self._queue_timeout
                yield state, RequestError("queue_timeout", f"queue_timeout: the request waited over {limit}")
            else:
                self._add(state.request.deadline, state)

    def _add(self, moment: float, state: RequestState) -> None:
        if moment < float("inf"):
            self._moments.add(moment, state)
