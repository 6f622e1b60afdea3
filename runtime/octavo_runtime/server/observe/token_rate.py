"""How many tokens a second come, over the last ten seconds."""

from collections import deque

WINDOW_SECONDS = 10
_SLOTS_A_SECOND = 10


class TokenRate:
    """Counts by tenths of a second, so that it holds few numbers however many tokens come. `now`: monotonic seconds."""

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque()  # (slot, tokens in it), the oldest first
        self._sum = 0

    def add(self, tokens: int, now: float) -> None:
        """Tokens that came just now."""
        slot, before = int(now * _SLOTS_A_SECOND), 0
        if self._counts and self._counts[-1][0] == slot:
            _, before = self._counts.pop()
        self._counts.append((slot, before + tokens))
        self._sum += tokens
        self._forget(now)

    def per_second(self, now: float) -> float:
        """The mean over the window that ends now."""
        self._forget(now)
        return self._sum / WINDOW_SECONDS

    def _forget(self, now: float) -> None:
        oldest = int((now - WINDOW_SECONDS) * _SLOTS_A_SECOND)
        while self._counts and self._counts[0][0] <= oldest:
            self._sum -= self._counts.popleft()[1]
