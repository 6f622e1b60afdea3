"""The client: requests and streams over several endpoints."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from random import Random
from types import TracebackType
from typing import Any

import httpx
import msgspec

from octavo_runtime.client.backoff import retry_after
from octavo_runtime.client.breaker import Breaker
from octavo_runtime.client.endpoint import Endpoint, base_url, checked_key
from octavo_runtime.client.errors import ServerFailed, StreamBroken, api_error
from octavo_runtime.client.events import event_data
from octavo_runtime.client.tries import RetryPolicy, Tries

Json = dict[str, Any]


class Client:
    """Asks whichever of several OpenAI-compatible servers has the fewest of this client's requests, and another when it
    fails. One instance serves any number of tasks of one event loop; `aclose`, or `async with`, ends it.

    endpoints: addresses such as http://10.0.0.1:8000, with or without /v1.
    tries, backoff, backoff_limit: up to `tries` tries of a request, `backoff` seconds after the first failure, doubled
    each time up to `backoff_limit`, less a random half. A request whose connection was lost goes to an endpoint that it
    has not tried at once. Tried again are lost connections, timeouts, HTTP 429, 502, 503 and 504, and nothing after the
    first event of a stream.
    retry_after_limit: longest time in seconds that a server's Retry-After is heeded for.
    timeout, connect_timeout: seconds to wait for the answer, or the next piece of it, and for a connection.
    break_after, break_seconds: after so many failures in a row an endpoint is left alone for so many seconds.
    http: an httpx client to use, for TLS, proxies and the like; its owner closes it.

    Raises ValueError, one line, for what is out of bounds."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        api_key: str = "",
        tries: int = 3,
        backoff: float = 1.0,
        backoff_limit: float = 10.0,
        retry_after_limit: float = 60.0,
        timeout: float = 600.0,
        connect_timeout: float = 5.0,
        break_after: int = 5,
        break_seconds: float = 10.0,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        if isinstance(endpoints, str):
            raise ValueError(f"endpoints: must be a list of addresses, got {endpoints!r}")
        urls = [base_url(one, "endpoints") for one in endpoints]
        if not urls or len(set(urls)) < len(urls):
            raise ValueError(f"endpoints: must be at least one address, each of them once, got {list(endpoints)}")
        checked_key(api_key)
        for name, value, least in (
            ("tries", tries, 1),
            ("break_after", break_after, 1),
            ("backoff", backoff, 0),
            ("backoff_limit", backoff_limit, 0),
            ("retry_after_limit", retry_after_limit, 0),
            ("break_seconds", break_seconds, 0),
        ):
            if not value >= least:
                raise ValueError(f"{name}: must be at least {least}, got {value}")
        for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
            if not seconds > 0:
                raise ValueError(f"{name}: must be over 0 s, got {seconds}")
        self._endpoints = [Endpoint(url, Breaker(break_after, break_seconds)) for url in urls]
        self._policy = RetryPolicy(tries, backoff, backoff_limit)
        self._retry_after_limit = retry_after_limit
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = httpx.Timeout(timeout, connect=connect_timeout)
        self._random = Random()
        self._owned = http is None
        # Servers end idle connections after 5 s, as uvicorn does; a request must not meet that end.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=256, keepalive_expiry=3.0)
        self._http = http or httpx.AsyncClient(limits=limits)

    async def chat(self, messages: list[Json], *, model: str, **options: Any) -> Json:
        """A chat completion. options: further fields of the request, such as temperature. Raises ClientError."""
        return await self.request("/v1/chat/completions", _whole(options) | {"model": model, "messages": messages})

    async def completions(self, prompt: Any, *, model: str, **options: Any) -> Json:
        """A completion of a prompt: text, tokens or a list of either. Raises ClientError."""
        return await self.request("/v1/completions", _whole(options) | {"model": model, "prompt": prompt})

    def stream_chat(self, messages: list[Json], *, model: str, **options: Any) -> AsyncGenerator[Json, None]:
        """The chunks of a chat completion as they come; see `stream`."""
        return self.stream("/v1/chat/completions", options | {"model": model, "messages": messages})

    def stream_completions(self, prompt: Any, *, model: str, **options: Any) -> AsyncGenerator[Json, None]:
        """The chunks of a completion as they come; see `stream`."""
        return self.stream("/v1/completions", options | {"model": model, "prompt": prompt})

    async def request(self, path: str, json: Json | None = None) -> Json:
        """The answer to a POST of `json` (to a GET without it) at a path such as /v1/embeddings. Raises ClientError."""
        tries = Tries(self._endpoints, self._policy, self._random)
        while True:
            with await tries.next() as one:
                response = await self._http.send(self._request(one.endpoint, path, json))
                self._check(one.endpoint, response)
                return _object(response)

    async def stream(self, path: str, json: Json) -> AsyncGenerator[Json, None]:
        """The events of the answer to a POST of `json` with `stream`, as they come, without the closing [DONE]. Closing
        the generator (contextlib.aclosing) or cancelling its task closes the connection, which ends the request on the
        server. Raises ClientError: StreamBroken where the answer ends early, with or without an error event."""
        tries = Tries(self._endpoints, self._policy, self._random)
        request = json | {"stream": True}
        while True:
            with await tries.next() as one:
                response = await self._http.send(self._request(one.endpoint, path, request), stream=True)
                async with aclosing(response):
                    if not response.is_success:
                        await response.aread()
                    self._check(one.endpoint, response)
                    async with aclosing(event_data(response.aiter_bytes())) as events:
                        async for data in events:
                            if data == b"[DONE]":
                                break
                            event = _event(response, data)
                            one.begin()
                            yield event
                return

    async def aclose(self) -> None:
        """Closes the connections; requests under way fail."""
        if self._owned:
            await self._http.aclose()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.aclose()

    def _request(self, endpoint: Endpoint, path: str, json: Json | None) -> httpx.Request:
        if not path.startswith("/"):
            raise ValueError(f"path: must begin with /, got {path!r}")
        return self._http.build_request(
            "GET" if json is None else "POST",
            endpoint.url + path,
            json=json,
            headers=self._headers,
            timeout=self._timeout,
        )

    def _check(self, endpoint: Endpoint, response: httpx.Response) -> None:
        """Raises the ApiError that the response is, unless it is a success; heeds its Retry-After."""
        if response.is_success:
            return
        if response.status_code in (429, 503):
            wait = retry_after(response.headers.get("retry-after"), time.time(), self._retry_after_limit)
            endpoint.not_before = max(endpoint.not_before, time.monotonic() + (wait or 0.0))
        raise api_error(response)


def _whole(options: Json) -> Json:
    if options.get("stream"):
        raise ValueError("stream: an answer in pieces comes from stream_chat, stream_completions or stream")
    return options


def _object(response: httpx.Response) -> Json:
    try:
        return msgspec.json.decode(response.content, type=Json)
    except ValueError:
        raise _unreadable(response, response.content) from None


def _event(response: httpx.Response, data: bytes) -> Json:
    try:
        event = msgspec.json.decode(data, type=Json)
    except ValueError:
        raise _unreadable(response, data) from None
    error = event.get("error")
    if error:
        known = error if isinstance(error, dict) else {"message": str(error)}
        raise StreamBroken(f"{response.url} ended the stream: {known.get('message')}", known)
    return event


def _unreadable(response: httpx.Response, data: bytes) -> ServerFailed:
    shown = data[:100].decode(errors="replace")
    return ServerFailed(f"{response.url} answered no JSON object", response.status_code, {"message": shown}, data)
