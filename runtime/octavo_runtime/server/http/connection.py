"""A client's connection: its bounds below HTTP (how many there are, how long a request's head may take and grow, how
long an answer may lie unread), and what clients of HTTP/1.0 and of HTTP/2 need of HTTP/1.1."""

import asyncio
import logging
import resource
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar

import httptools
import msgspec
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from octavo_runtime.server.http.bounds import MAX_HEAD_BYTES, head_too_large
from octavo_runtime.server.http.errors import ApiError, invalid, openai_error, unavailable
from octavo_runtime.server.http.security_headers import SECURITY_HEADERS

# Bytes that may frame a byte of the body: a client may send it in chunks of one.
_FRAMING = 8


@dataclass(frozen=True)
class ConnectionBounds:
    """stall_seconds: how long a client may take to send a request's head, or to take what lies ready for it."""

    max_connections: int
    stall_seconds: float


def allow_open_files(max_connections: int, level: int = logging.WARNING) -> None:
    """As many open files as this process may have, for each connection is one; what it has at first is often 1024.
    Logs a line of this level where they are too few for so many connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < max_connections:
        few = (
            "this process may have %s open files (ulimit -Hn), fewer than --max-connections %s: more clients are reset"
        )
        logging.getLogger(__name__).log(level, few, most, max_connections)


def connection_type(bounds: ConnectionBounds) -> type[asyncio.Protocol]:
    """The protocol of a server's connections, for uvicorn."""

    class Bounded(Connection):
        _bounds = bounds

    return Bounded


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with bounds; uvicorn itself has none but on the time between requests. An offer of another
    protocol is not taken up: the request is answered as if there were none."""

    _bounds: ClassVar[ConnectionBounds]

    _answered: RequestResponseCycle | None = None  # what is answered now; `cycle` is of the request that came last
    _head_open = True  # the next request's head is not yet all there
    _received = 0  # bytes of the request that is arriving
    _of_body = 0  # those of them that are its body
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turns a client away where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._bounds.max_connections:
            self._end(unavailable(f"all {self._bounds.max_connections} connections are taken", retry_after=1))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the timers too, and tells whoever answers: uvicorn tells the request that came last alone, which may
        wait behind it."""
        _cancel(self._head_timer)
        self._head_timer = None
        _cancel(self._write_timer)
        self._write_timer = None
        self.pipeline.clear()
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses more of a request, which must be its body but for a bounded part."""
        if self.transport.is_closing():
            return
        self._received += len(data)
        self._parse(data)
        if self._received - self._of_body > MAX_HEAD_BYTES + _FRAMING * self._of_body:
            self._end(head_too_large(f"must have at most {MAX_HEAD_BYTES} bytes, got more"))
        elif self._head_open and self._received and self._head_timer is None:
            self._await_head()

    def _parse(self, data: bytes) -> None:
        """Reads on in HTTP. The parser takes nothing behind a head that offers another protocol: so a new one takes
        that head without the offer, and what comes behind it."""
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while (offered := self._feed(rest)) is not None:
                method, version = self.parser.get_method(), self.parser.get_http_version().encode()
                if method == b"CONNECT":
                    self.send_400_response("")
                    return
                lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
                lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
                self._feed(memoryview(b"\r\n".join([*lines, b"", b""])))
                rest = rest[offered:]
        except httptools.HttpParserError:
            self.send_400_response("")

    def _feed(self, data: memoryview) -> int | None:
        """Where in `data` a head ended that offers another protocol; None where none did."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            end: int = offer.args[0]
            return end
        return None

    def on_headers_complete(self) -> None:
        """Stops the clock of the head."""
        if self.parser.should_upgrade():
            return
        self._head_open = False
        _cancel(self._head_timer)
        self._head_timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Counts the body apart."""
        self._of_body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Counts from nothing again."""
        if self.parser.should_upgrade():
            return
        self._head_open = True
        self._received = self._of_body = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Starts the clock of a client that does not take its answer."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._bounds.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stops it: the client has taken what lay ready."""
        _cancel(self._write_timer)
        self._write_timer = None
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answered = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _without_chunks(app, cycle)
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are for its own log
        """Says in OpenAI's shape that this is no HTTP."""
        self._end(invalid(None, "this is not a valid HTTP/1.1 request"))

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._bounds.stall_seconds, self._on_late_head)

    def _on_late_head(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # an answer is on its way; what comes after it may be late
        elif self._received:
            seconds = self._bounds.stall_seconds
            self._end(ApiError(408, f"the request's head must arrive within {seconds:g} s", code="request_timeout"))
        else:
            self.transport.close()

    def _end(self, error: ApiError) -> None:
        """Answers in the application's place, where it has not begun to, and closes the connection."""
        if self.transport.is_closing():
            return
        if self._answered is None or self._answered.response_complete or not self._answered.response_started:
            body = msgspec.json.encode(openai_error(error))
            phrase = HTTPStatus(error.status_code).phrase
            headers = [
                *((name.encode(), value.encode()) for name, value in (error.headers or {}).items()),
                *SECURITY_HEADERS,
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            lines = [f"HTTP/1.1 {error.status_code} {phrase}".encode(), *(b": ".join(header) for header in headers)]
            self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()


def _without_chunks(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """`app` for a client of HTTP/1.0, which knows no chunks: an answer of unknown length ends with its connection (RFC
    9112, 6.3)."""

    async def plain(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        open_ended = False

        async def send_plain(message: ASGISendEvent) -> None:
            nonlocal open_ended
            if message["type"] == "http.response.start":
                open_ended = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
                if open_ended:
                    cycle.chunked_encoding = False
            elif message["type"] == "http.response.body" and open_ended:
                cycle.expected_content_length = len(message.get("body", b""))  # uvicorn counts down from it
            await send(message)

        await app(scope, receive, send_plain)

    return plain


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
