"""A circuit breaker: keeps requests away from an endpoint that fails again and again."""

from typing import Literal

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Closed, it lets every request pass. After `failures` failures in a row it opens and lets none pass for `seconds`.
    Then it is half-open: one request may try; its success closes the circuit, its failure opens it again.

    Pure: the time of each event, in seconds of any one clock, is an argument."""

    def __init__(self, failures: int, seconds: float) -> None:
        self._allowed = failures
        self._seconds = seconds
        self._failures = 0
        self._opened: float | None = None
        self._trying = False

    def state(self, now: float) -> State:
        """What the circuit is at the time `now`."""
        if self._opened is None:
            return "closed"
        return "open" if now < self._opened + self._seconds else "half-open"

    def admits(self, now: float) -> bool:
        """Whether a request may start."""
        state = self.state(now)
        return state == "closed" or (state == "half-open" and not self._trying)

    def started(self, now: float) -> None:
        """A request starts. Each is followed by one of succeeded, failed or left."""
        self._trying = self.state(now) == "half-open"

    def succeeded(self) -> None:
        """The endpoint answered: it is well."""
        self._failures = 0
        self._opened = None
        self._trying = False

    def failed(self, now: float) -> None:
        """The endpoint did not answer, or said that it cannot."""
        if self.state(now) == "open":
            return  # requests from before the circuit opened; they tell nothing new
        self._failures += 1
        if self._opened is not None or self._failures >= self._allowed:
            self._opened = now
        self._trying = False

    def left(self) -> None:
        """The request ended before it told anything about the endpoint."""
        self._trying = False
