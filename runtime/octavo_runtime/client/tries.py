"""The tries of one request: where each goes, what its end means, and how long to wait before the next."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType

import httpx

from octavo_runtime.client.backoff import delay
from octavo_runtime.client.endpoint import Endpoint, choose
from octavo_runtime.client.errors import ApiError, NoAnswer, StreamBroken

# A 500 is not among them: the request itself may be what the server fails at.
_WORTH_A_RETRY = frozenset({429, 502, 503, 504})
_NOT_SENT = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


@dataclass(frozen=True)
class RetryPolicy:
    """tries: how many in all. backoff, backoff_limit: seconds to wait after the first failure, and at most."""

    tries: int
    backoff: float
    backoff_limit: float


class Tries:
    """The tries of one request. `next` gives the following one; its `with` block ends quietly where another try may
    help, so the block belongs into an endless loop that success leaves."""

    def __init__(self, endpoints: Sequence[Endpoint], policy: RetryPolicy, random: Random) -> None:
        self._endpoints = endpoints
        self._policy = policy
        self._random = random
        self._tried: set[Endpoint] = set()
        self._count = 0
        self._pause = 0.0
        self._failure: Exception | None = None

    async def next(self) -> "Try":
        """The next try, once it is time for it. Raises NoAnswer where every circuit stays open."""
        while True:
            await asyncio.sleep(self._pause)
            self._count += 1
            endpoint = await self._endpoint()
            if endpoint is not None:
                self._tried.add(endpoint)
                return Try(self, endpoint)
            if self._count >= self._policy.tries:
                reason = f"; the last answer: {self._failure}" if self._failure else ""
                raise NoAnswer(f"every endpoint failed too often of late{reason}") from self._failure
            self._pause = self._delay()

    async def _endpoint(self) -> Endpoint | None:
        """Where to go now: where all servers asked to be left alone, after the shortest time that one asked for. None
        where every circuit is open."""
        endpoint = choose(self._endpoints, self._tried, time.monotonic(), self._random)
        if endpoint is None or not (held := endpoint.held(time.monotonic())):
            return endpoint
        # The random part keeps those who wait for the same moment apart. Who has waited goes, even if the server asked
        # others again: else none of many would ever get its turn.
        await asyncio.sleep(held + self._random.uniform(0, self._policy.backoff / 2))
        return choose(self._endpoints, self._tried, time.monotonic(), self._random)

    def failed(self, error: ApiError | httpx.RequestError) -> bool:
        """Whether to try again after `error`."""
        refused = isinstance(error, ApiError)
        again = error.status in _WORTH_A_RETRY if isinstance(error, ApiError) else not isinstance(error, _NOT_SENT)
        if not again or self._count >= self._policy.tries:
            return False
        self._failure = error
        # A lost connection is the fate of one server: another that is well need not be waited for.
        self._pause = 0.0 if not refused and self._other() else self._delay()
        return True

    def _other(self) -> bool:
        """Whether there is an endpoint to go to at once that this request has not tried."""
        now = time.monotonic()
        return any(one.breaker.admits(now) and not one.held(now) for one in self._endpoints if one not in self._tried)

    def _delay(self) -> float:
        return delay(self._count, self._policy.backoff, self._policy.backoff_limit, self._random)


class Try:
    """One try at one endpoint, around all that it does there, a stream's events included."""

    def __init__(self, tries: Tries, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._tries = tries
        self._begun = False

    def begin(self) -> None:
        """The caller is given something: from here on nothing is tried again."""
        self._begun = True
        self.endpoint.breaker.succeeded()

    def __enter__(self) -> "Try":
        self.endpoint.in_flight += 1
        self.endpoint.breaker.started(time.monotonic())
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> bool:
        self.endpoint.in_flight -= 1
        self._tell_breaker(error)
        if isinstance(error, ApiError):
            return self._tries.failed(error)
        if not isinstance(error, httpx.RequestError):
            return False
        url, reason = self.endpoint.url, _reason(error)
        if self._begun:
            raise StreamBroken(f"{url} was lost in the middle of a stream: {reason}") from error
        if self._tries.failed(error):
            return True
        raise NoAnswer(f"{url} did not answer: {reason}") from error

    def _tell_breaker(self, error: BaseException | None) -> None:
        breaker = self.endpoint.breaker
        match error:
            case httpx.PoolTimeout() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
                breaker.left()
            case httpx.RequestError():
                breaker.failed(time.monotonic())
            case ApiError() if error.status >= 500:
                breaker.failed(time.monotonic())
            case ApiError() | None:
                breaker.succeeded()
            case _:
                breaker.left()


def _reason(error: httpx.RequestError) -> str:
    """httpx leaves the message of many errors empty."""
    return str(error) or type(error).__name__
