"""Bounds on a request's head, and on the size, time and shape of its body, held before any of it is parsed."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo_runtime.server.http.errors import ApiError, error_response, invalid
from octavo_runtime.server.http.json_bounds import broken_bound
from octavo_runtime.server.http.record import current_request

MAX_HEADERS = 100
MAX_HEAD_BYTES = 2**16


class RequestBounds:
    """ASGI middleware: answers a request that breaks a bound in place of the application, which else gets the whole
    body in one piece. max_body: in bytes; read_seconds: how long a body may take to arrive; on_rejected hears of each
    refusal."""

    def __init__(self, app: ASGIApp, *, max_body: int, read_seconds: float, on_rejected: Callable[[], None]) -> None:
        self._app = app
        self._max_body = max_body
        self._read_seconds = read_seconds
        self._on_rejected = on_rejected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on once its body is there (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _check_head(scope)
            body = await self._body(scope, receive)
            current_request().body_bytes = len(body)
            _check_encoding(scope)
            if (broken := broken_bound(body)) is not None:
                raise invalid(None, f"the body {broken}")
        except ApiError as error:
            self._on_rejected()
            await error_response(scope["path"], error)(scope, receive, send)
            return
        except _ClientGone:
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if (announced := int(length)) > self._max_body:
            raise self._too_large(announced)
        pieces, received, more = [], 0, True
        try:
            async with asyncio.timeout(self._read_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _ClientGone
                    pieces.append(message.get("body", b""))
                    more = message.get("more_body", False)
                    received += len(pieces[-1])
                    if received > self._max_body:
                        raise self._too_large(received)
        except TimeoutError:
            raise ApiError(
                408,
                f"the body must arrive within {self._read_seconds:g} s, and {received} bytes did",
                code="request_timeout",
                headers={"Connection": "close"},
            ) from None
        return b"".join(pieces)

    def _too_large(self, size: int) -> ApiError:
        message = f"the body must have at most {self._max_body} bytes, got {size}"
        return ApiError(413, message, code="request_too_large", headers={"Connection": "close"})


class _ClientGone(Exception):
    """Nobody waits for an answer any more."""


def _check_head(scope: Scope) -> None:
    headers = scope["headers"]
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS:
        raise head_too_large(f"must have at most {MAX_HEADERS} headers, got {len(headers)}")
    if size > MAX_HEAD_BYTES:
        raise head_too_large(f"must have at most {MAX_HEAD_BYTES} bytes, got {size}")


def _check_encoding(scope: Scope) -> None:
    encodings = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-encoding"]
    if any(one.strip().lower() not in ("", "identity") for one in encodings):
        got = ", ".join(encodings)
        raise ApiError(
            415,
            f"Content-Encoding: must be identity or left out, the body as it is, got {got!r:.100}",
            code="unsupported_media_type",
            headers={"Accept-Encoding": "identity"},  # RFC 9110, 15.5.16
        )


def head_too_large(message: str) -> ApiError:
    """A request's line and headers break a bound; HTTP 431."""
    return ApiError(
        431, f"the request's head {message}", code="request_header_fields_too_large", headers={"Connection": "close"}
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` for an application that has yet to read the body."""
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
