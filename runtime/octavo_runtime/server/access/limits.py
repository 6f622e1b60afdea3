"""How much one caller may ask of one server: token buckets and a count of requests under way. Pure logic: what depends
on the time takes it as an argument, in seconds of a clock that never goes back."""

import math
from dataclasses import dataclass
from typing import Literal

_SLACK = 1e-6  # what rounding may take off a level


@dataclass(frozen=True)
class Limits:
    """Bounds of one caller on one server; None: no bound."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None

    def over(self, other: "Limits") -> "Limits":
        """These limits, and those of `other` where there is none."""
        mine, theirs = vars(self), vars(other)
        return Limits(**{name: theirs[name] if mine[name] is None else mine[name] for name in mine})


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Refusal:
    """Why a request may not begin now. retry_after: seconds until it may, if nothing else comes in between."""

    limit: Literal["requests_per_minute", "tokens_per_minute", "max_concurrent_requests"]
    bound: int
    retry_after: int


@dataclass(frozen=True)
class Standing:
    """What is left of one limit. reset: seconds until all of it is there again."""

    limit: int
    remaining: int
    reset: float


class Bucket:
    """Holds up to `size`, full at first, and fills up at `size` a minute. What is taken may be more than it holds: the
    debt is paid off first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._level = float(size)
        self._at = 0.0

    def level(self, now: float) -> float:
        """How much it holds; below zero where too much was taken."""
        return min(self.size, self._level + max(0.0, now - self._at) * self.size / 60)

    def holds_one(self, now: float) -> bool:
        """Whether one may be taken without a debt."""
        return self.level(now) >= 1 - _SLACK

    def take(self, amount: int, now: float) -> None:
        """Takes `amount`, be it there or not."""
        self._level, self._at = self.level(now) - amount, now

    def wait(self, now: float) -> float:
        """Seconds until it holds one."""
        return max(0.0, 1 - self.level(now)) * 60 / self.size

    def resize(self, size: int) -> None:
        """Another size; what was taken stays taken."""
        self._level += size - self.size
        self.size = size

    def standing(self, now: float) -> Standing:
        """What is left."""
        level = self.level(now)
        return Standing(self.size, max(0, math.floor(level + _SLACK)), (self.size - level) * 60 / self.size)


class Account:
    """What one caller has asked for of late, against its limits. running: requests under way."""

    def __init__(self, limits: Limits) -> None:
        self.running = 0
        self.limits = limits
        self._requests = _bucket(limits.requests_per_minute)
        self._tokens = _bucket(limits.tokens_per_minute)

    def limit(self, limits: Limits) -> None:
        """New limits for a caller that goes on."""
        self.limits = limits
        self._requests = _resized(self._requests, limits.requests_per_minute)
        self._tokens = _resized(self._tokens, limits.tokens_per_minute)

    def admit(self, now: float) -> Refusal | None:
        """Lets one request begin, to be ended by `release`; or says why it may not, and counts nothing."""
        most = self.limits.max_concurrent_requests
        if most is not None and self.running >= most:
            return Refusal("max_concurrent_requests", most, 1)
        if self._requests is not None and not self._requests.holds_one(now):
            return Refusal("requests_per_minute", self._requests.size, _seconds(self._requests.wait(now)))
        if self._tokens is not None and not self._tokens.holds_one(now):
            return Refusal("tokens_per_minute", self._tokens.size, _seconds(self._tokens.wait(now)))
        if self._requests is not None:
            self._requests.take(1, now)
        self.running += 1
        return None

    def release(self) -> None:
        """A request that was let in has ended."""
        self.running -= 1

    def charge(self, tokens: int, now: float) -> None:
        """Tokens that a request was made of, or that were generated for it. They may be more than are left: the
        caller's next requests wait then."""
        if self._tokens is not None:
            self._tokens.take(tokens, now)

    def standing(self, now: float) -> dict[Literal["requests", "tokens"], Standing]:
        """What is left of each limit per minute that there is."""
        left: dict[Literal["requests", "tokens"], Standing] = {}
        if self._requests is not None:
            left["requests"] = self._requests.standing(now)
        if self._tokens is not None:
            left["tokens"] = self._tokens.standing(now)
        return left


def _bucket(size: int | None) -> Bucket | None:
    return None if size is None else Bucket(size)


def _resized(bucket: Bucket | None, size: int | None) -> Bucket | None:
    if bucket is None or size is None:
        return _bucket(size)
    bucket.resize(size)
    return bucket


def _seconds(wait: float) -> int:
    return max(1, math.ceil(wait))
