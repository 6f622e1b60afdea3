"""Answers on their way to the client: as server-sent events or whole, and ended when the client goes away."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from fastapi import Request, Response
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from octavo_runtime.server.http.encoding import encode
from octavo_runtime.server.http.errors import ApiError, error_response, openai_error
from octavo_runtime.server.http.record import current_request

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Answering(Protocol):
    """What a server knows of the answers in the making. ping_seconds: how long a stream may be silent, 0 for any time;
    answer: stands around the making of one."""

    ping_seconds: float

    def answer(self) -> contextlib.AbstractContextManager[None]: ...


class Wire(NamedTuple):
    """How a stream is written. failure: an error after the first event; end: what closes a stream that went well; ping:
    what clients pass over."""

    event: Callable[[msgspec.Struct], bytes]
    failure: Callable[[ApiError], bytes]
    end: bytes
    ping: bytes = b": ping\n\n"


# Readers that split text into lines as Unicode has them, such as httpx's, would end an event's data at these.
_LINE_ENDS = [(end.encode(), f"\\u{ord(end):04x}".encode()) for end in "\x85\u2028\u2029"]


def _data(data: bytes) -> bytes:
    """An event's data: JSON, with all line ends spelt out."""
    for end, spelt in _LINE_ENDS:
        data = data.replace(end, spelt)
    return b"data: " + data + b"\n\n"


OPENAI_WIRE = Wire(
    event=lambda event: _data(encode(event)),
    failure=lambda error: _data(msgspec.json.encode(openai_error(error))),
    end=_data(b"[DONE]"),
)
"""Events without names, closed by `data: [DONE]`."""


def named_events(failure: Callable[[ApiError], msgspec.Struct], ping: msgspec.Struct | None = None) -> Wire:
    """Events that bear the tags of their structs as names. `failure`: the event that tells of an error; ping: one that
    means nothing, where the API has it, else pings are comments."""

    def event(one: msgspec.Struct) -> bytes:
        return b"event: " + str(one.__struct_config__.tag).encode() + b"\n" + _data(encode(one))

    wire = Wire(event, lambda error: event(failure(error)), b"")
    return wire if ping is None else wire._replace(ping=event(ping))


class EventStream(Response):
    """A stream of server-sent events (html.spec.whatwg.org, section 9.2).

    Headers wait for the first event or ping: what fails before it has an HTTP status; what fails after is an event of
    its own. When the client goes away `events` is closed, which aborts the request."""

    media_type = "text/event-stream"

    def __init__(
        self, state: Answering, events: AsyncGenerator[msgspec.Struct, None], wire: Wire = OPENAI_WIRE
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._state = state
        self._events = events
        self._wire = wire
        self._started = False
        self._sending = asyncio.Lock()
        self._sent = current_request().arrival  # when the client last heard of us, or we of it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events (ASGI)."""
        await _while_connected(receive, self._stream(scope, receive, send))

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._pings(send):
                with self._state.answer():
                    async with aclosing(self._events) as events:
                        async for event in events:
                            await self._send(send, self._wire.event(event))
            await self._send(send, self._wire.end)
        except Exception as error:
            failure = error if isinstance(error, ApiError) else _bug()
            if not self._started:
                await error_response(scope["path"], failure)(scope, receive, send)
                return
            await self._send(send, self._wire.failure(failure))
        await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send, data: bytes) -> None:
        async with self._sending:
            if not self._started:
                await send(self._head())
                self._started = True
            await send(_body(data))
            self._sent = time.perf_counter()

    @contextlib.asynccontextmanager
    async def _pings(self, send: Send) -> AsyncIterator[None]:
        """Around a stream: says something where it is silent for long, from the request's arrival on."""
        interval = self._state.ping_seconds

        async def ping() -> None:
            while True:
                silent_for = time.perf_counter() - self._sent
                if silent_for < interval:
                    await asyncio.sleep(interval - silent_for)
                else:
                    await self._send(send, self._wire.ping)

        pinging = asyncio.create_task(ping()) if interval else None
        try:
            yield
        finally:
            if pinging is not None:
                pinging.cancel()
                await asyncio.wait([pinging])

    def _head(self) -> Message:
        return {"type": "http.response.start", "status": 200, "headers": self.raw_headers}


async def whole_answer(
    state: Answering, request: Request, making: Coroutine[Any, Any, BaseModel | msgspec.Struct | msgspec.Raw]
) -> Response:
    """The response that `making` makes; it is cancelled when the client goes away first."""

    async def make() -> Response:
        try:
            with state.answer():
                made = await making
        except ApiError as error:
            return error_response(request.url.path, error)
        body = made.model_dump_json().encode() if isinstance(made, BaseModel) else encode(made)
        return Response(body, media_type="application/json")

    response = await _while_connected(request.receive, make())
    return Response(status_code=499) if response is None else response  # nobody is left to read a 499


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T | None:
    """Runs `work` until it ends or the client goes away; None then."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return None
    finally:
        for task in (working, leaving):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(working, leaving, return_exceptions=True)


def _body(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


def _bug() -> ApiError:
    _log.exception("error in the middle of a stream")
    return ApiError(500, "internal error; the server's log has its cause")
