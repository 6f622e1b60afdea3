"""A client that reads streams of events as cheaply as Python can, so that the server is what is measured."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import msgspec

from octavo_runtime.bench.token_source import WORD

_CONTENT = re.compile(rb'"content": ?"((?:%b)+)"' % re.escape(WORD.encode()))
_FIRST = b"data: {"
_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
_END = b"data: [DONE]"


@dataclass
class Stream:
    """One answer as it came. Times on the monotonic clock, in seconds; `arrivals`: one for each WORD. `events`: those
    with WORDs. `tokens`: what its usage says."""

    sent: float = 0.0
    first_byte: float = 0.0
    first_event: float = 0.0
    ended: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    events: int = 0
    tokens: int = 0


async def read_streams(
    url: str, bodies: Sequence[dict[str, object]], arrivals: Sequence[float] | None = None
) -> list[Stream]:
    """Posts all bodies, each on a connection of its own, and reads every answer to its end. arrivals: when each is
    sent, in seconds; all at once if None.

    Raises ConnectionError where one ends early or is no stream."""
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    readers = [_Reader(loop.create_future(), parts.path, body) for body in bodies]
    for reader in readers:
        await loop.create_connection(partial(_itself, reader), host, port)
    began = loop.time()
    for reader, arrival in zip(readers, arrivals or [0.0] * len(readers), strict=True):
        if arrival == 0:
            reader.send()
        else:
            loop.call_at(began + arrival, reader.send)
    return await asyncio.gather(*(reader.done for reader in readers))


def _itself(reader: "_Reader") -> "_Reader":
    return reader


class _Reader(asyncio.Protocol):
    def __init__(self, done: asyncio.Future[Stream], path: str, body: dict[str, object]) -> None:
        self.done = done
        data = msgspec.json.encode(body)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        )
        self._request = head.encode() + b"\r\n\r\n" + data
        self._stream = Stream()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def send(self) -> None:
        self._stream.sent = time.monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now, stream = time.monotonic(), self._stream
        if not stream.first_byte:
            stream.first_byte = now
            if not data.startswith(b"HTTP/1.1 200"):
                self._fail(data[:500].decode("utf-8", "replace"))
                return
        data = self._rest + data
        if not stream.first_event and _FIRST in data:
            stream.first_event = now
        # An event may be cut anywhere; what follows the last whole one is kept for the next time.
        whole = data.rfind(b"\n\n") + 2
        self._rest = data[whole:] if whole > 1 else data
        for match in _CONTENT.finditer(data, 0, max(whole, 0)):
            stream.events += 1
            stream.arrivals += [now] * (len(match[1]) // len(WORD))
        if usage := _TOKENS.search(data, 0, max(whole, 0)):
            stream.tokens = int(usage[1])
        if _END in data:
            stream.ended = now
            self._transport.close()
            if not self.done.done():
                self.done.set_result(stream)

    def connection_lost(self, _error: Exception | None) -> None:
        self._fail("the connection ended before the stream did")

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(reason))
        self._transport.close()
