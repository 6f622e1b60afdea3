"""A name for each request, on its response and on every log line of it, and one line about it when it has ended."""

import logging
import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo_runtime.server.http.error_shapes import PATHS
from octavo_runtime.server.http.record import RequestRecord, begin_request

_log = logging.getLogger(__name__)
_HEADER = b"x-request-id"
_ANTHROPICS_HEADER = b"request-id"
IGNORED_HEADER = "x-octavo-ignored"
_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CLIENT_GONE = 499  # no status was sent: nobody was left to read one
_MAX_PATH = 200


class RequestLog:
    """ASGI middleware, the outermost. A client may bring the id in x-request-id; one that is not made of at most 128
    letters, digits, dots, dashes and underscores is replaced. Every response carries the id, for Anthropic's clients by
    their name too, and the fields of those wishes that were ignored. strict: such wishes are refused instead."""

    def __init__(self, app: ASGIApp, *, access_log: bool, strict: bool) -> None:
        self._app = app
        self._access_log = access_log
        self._strict = strict

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers within the request's record (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(_request_id(scope), scope["method"], scope["path"][:_MAX_PATH], strict=self._strict)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_named(record)]}
            await send(message)

        begin_request(record)
        try:
            await self._app(scope, receive, send_named)
        finally:
            if self._access_log:
                _write(record)


def _named(record: RequestRecord) -> list[tuple[bytes, bytes]]:
    headers = [(_HEADER, record.id.encode())]
    if record.path.startswith(PATHS):
        headers.append((_ANTHROPICS_HEADER, record.id.encode()))
    if record.ignored:
        fields = ", ".join(record.ignored)
        headers.append((IGNORED_HEADER.encode(), fields.encode()))
        _log.debug("ignored", extra={"fields": fields})
    return headers


def _request_id(scope: Scope) -> str:
    given: bytes = next((value for name, value in scope["headers"] if name == _HEADER), b"")
    return given.decode() if _ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex


def _write(record: RequestRecord) -> None:
    answered = record.prompt_tokens > 0
    _log.log(
        logging.DEBUG if record.is_probe else logging.INFO,
        "request",
        extra={
            "method": record.method,
            "path": record.path,
            "status": record.status or _CLIENT_GONE,
            "duration": round(time.perf_counter() - record.arrival, 4),
            "key": record.key,
            "model": record.model,
            "prompt_tokens": record.prompt_tokens if answered else None,
            "completion_tokens": record.completion_tokens if answered else None,
            "finish_reason": ",".join(dict.fromkeys(record.finish_reasons)) or None,
            "trace_id": record.trace_id,
        },
    )
