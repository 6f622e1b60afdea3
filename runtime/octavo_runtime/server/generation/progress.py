"""How one generation goes on, told to the metrics, to its caller's account, and to the record of its HTTP request."""

import time

from octavo_runtime.protocol.messages import Output
from octavo_runtime.server.access.caller import caller
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.observe.metrics import ServerMetrics, Stages


class Progress:
    """Made when the prompt arrives, within the request; `tokens`: how many were generated, of all answers together."""

    def __init__(self, metrics: ServerMetrics, prompt_tokens: int) -> None:
        self.tokens = 0
        self._metrics = metrics
        self._caller = caller.get()
        self._record = current_request()
        self._prompt_tokens = prompt_tokens
        self._arrival = time.perf_counter()
        self._queued = 0.0  # seconds in the engine's queue
        self._first: float | None = None  # when the first token came
        self._last: dict[int, float] = {}  # when each answer last grew

    def started(self) -> None:
        """The engine is about to be asked."""
        self._metrics.started(self._prompt_tokens)
        self._caller.charge_prompt(self._prompt_tokens)
        self._record.prompt_tokens += self._prompt_tokens

    def grew(self, output: Output) -> None:
        """An answer has new tokens."""
        count, now, record = len(output.token_ids), time.perf_counter(), self._record
        self.tokens += count
        record.completion_tokens += count
        self._metrics.generated(count)
        self._caller.charge_generated(count)
        if self._first is None:
            self._first, self._queued = now, output.queued or 0.0
            record.cached_tokens += output.cached_tokens
            self._metrics.first_token(now - self._arrival)
            if record.first_token_seconds is None:
                record.scheduled_seconds = self._arrival - record.arrival + self._queued
                record.first_token_seconds = now - record.arrival
        elif output.index in self._last:
            self._metrics.next_tokens(count, now - self._last[output.index])
        self._last[output.index] = now

    def embedded(self, output: Output) -> None:
        """The prompt's embedding came: all that the request is for, without a token."""
        self._first, self._queued = time.perf_counter(), output.queued or 0.0
        self._last[0] = self._first
        self._record.cached_tokens += output.cached_tokens
        self.answered("stop")

    def answered(self, finish_reason: str) -> None:
        """An answer is complete."""
        self._metrics.answered(finish_reason)
        self._record.finish_reasons.append(finish_reason)

    def ended(self, status: str) -> None:
        """All is over; status: success, error, aborted by the client, or rejected by the engine."""
        if status == "aborted" and self._record.cut is not None:
            status = "error"  # the server's own doing
        now = time.perf_counter()
        self._metrics.ended(status, now - self._arrival)
        if status != "success":
            self._record.finish_reasons.append(status)
        elif self._first is not None:
            first = self._first - self._arrival
            stages = Stages(
                queue=self._queued,
                prefill=max(first - self._queued, 0.0),
                decode=max(self._last.values()) - self._first,
                prompt_tokens=self._prompt_tokens,
                generation_tokens=self.tokens,
            )
            self._metrics.succeeded(stages)
