"""Who calls, whether they may, and how much they have left: decided by a request's head alone."""

import math
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo_runtime.server.access.caller import ANONYMOUS, NOBODY, Caller, caller
from octavo_runtime.server.access.keys import ApiKeys
from octavo_runtime.server.access.limits import Account, Refusal
from octavo_runtime.server.http.errors import ApiError, error_response, unauthorized
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.observe.metrics import ServerMetrics

# The page and its files hold no secret, and a browser can send a key only once it has them.
_OPEN = {"/", "/health", "/health/live", "/health/ready"}
_OPEN_FOLDER = "/ui/"
_METRICS = "/metrics"
RATE_LIMIT_HEADERS = [
    f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")
]
_UNITS = {
    "requests_per_minute": "requests a minute",
    "tokens_per_minute": "tokens a minute",
    "max_concurrent_requests": "requests at a time",
}


class Guard:
    """ASGI middleware: asks for an API key where there are any, and holds each caller to its limits.

    Limits count POST requests: those ask for work. The rest of the request runs with `caller` set."""

    def __init__(self, app: ASGIApp, *, keys: ApiKeys, metrics: ServerMetrics, guard_metrics: bool) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics
        self._open = _OPEN if guard_metrics else _OPEN | {_METRICS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 401 or 429 in its place (ASGI)."""
        caller.set(NOBODY)
        if scope["type"] != "http" or scope["path"] in self._open or scope["path"].startswith(_OPEN_FOLDER):
            await self._app(scope, receive, send)
            return
        name, account = ANONYMOUS, self._keys.anonymous
        if self._keys.required:
            key = self._keys.find(_presented(scope["headers"]))
            if key is None:
                self._metrics.key_request("", 401)
                await error_response(scope["path"], unauthorized())(scope, receive, send)
                return
            name, account = key.name, key.account
            current_request().key = name
        caller.set(
            Caller(
                name, account, self._metrics.key_tokens(name, "prompt"), self._metrics.key_tokens(name, "generation")
            )
        )
        if scope["method"] != "POST":
            await self._app(scope, receive, _with_standing(send, account))
            return
        if (refusal := account.admit(time.monotonic())) is not None:
            self._metrics.key_request(name, 429)
            await error_response(scope["path"], _limited(refusal))(scope, receive, _with_standing(send, account))
            return
        await self._work(scope, receive, send, name, account)

    async def _work(self, scope: Scope, receive: Receive, send: Send, name: str, account: Account) -> None:
        """Passes on a request that was let in, and counts its end whatever it is."""
        status = 499  # until something is sent: the client may be gone

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, _with_standing(noted, account))
        except Exception:
            status = 500
            raise
        finally:
            account.release()
            self._metrics.key_request(name, status)


def _presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key in `Authorization: Bearer`, or in `x-api-key` as Anthropic's clients send it."""
    presented = b""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, word = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return word.strip()
        elif name == b"x-api-key":
            presented = value.strip()
    return presented


def _limited(refusal: Refusal) -> ApiError:
    return ApiError(
        429,
        f"{refusal.limit}: this server allows {refusal.bound} {_UNITS[refusal.limit]}, and they are used up; try again "
        f"in {refusal.retry_after} s",
        code="rate_limit_exceeded",
        headers={"Retry-After": str(refusal.retry_after)},
    )


def _with_standing(send: Send, account: Account) -> Send:
    """`send` that tells a response's receiver what is left of its limits, if there are any."""
    if not account.standing(time.monotonic()):
        return send

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start" and (left := account.standing(time.monotonic())):
            headers = list(message.get("headers", ()))
            for kind, standing in left.items():
                headers += [
                    (f"x-ratelimit-limit-{kind}".encode(), str(standing.limit).encode()),
                    (f"x-ratelimit-remaining-{kind}".encode(), str(standing.remaining).encode()),
                    (f"x-ratelimit-reset-{kind}".encode(), f"{math.ceil(standing.reset)}s".encode()),
                ]
            message = {**message, "headers": headers}
        await send(message)

    return telling
