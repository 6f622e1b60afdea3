"""What the client raises. Errors of a server keep its body, in OpenAI's shape or not."""

from typing import Any

import httpx


class ClientError(Exception):
    """Any failure of a request. One line for a person."""


class NoAnswer(ClientError):
    """No endpoint answered: connections failed or were lost, answers were not in time, or every circuit is open."""


class StreamBroken(ClientError):
    """A stream ended early, after its first event or by an event that is an error. Never tried again: what came before
    is with the caller. error: OpenAI's error object {"message", "type", "param", "code"}, empty for a lost
    connection."""

    def __init__(self, message: str, error: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.error = error or {}


class ApiError(ClientError):
    """An answer that is not a success. status: the HTTP status; error: OpenAI's error object, empty where the body has
    none; body: the body as it came. type, param and code are those of `error`."""

    def __init__(self, url: str, status: int, error: dict[str, Any], body: bytes) -> None:
        self.status = status
        self.error = error
        self.body = body
        self.type: str | None = error.get("type")
        self.param: str | None = error.get("param")
        self.code: str | None = error.get("code")
        super().__init__(f"{url} answered {status}: {error.get('message') or body[:200].decode(errors='replace')}")


class InvalidRequest(ApiError):
    """The request is at fault; HTTP 4xx other than those below."""


class NotAllowed(ApiError):
    """The key is missing, unknown or not good for this; HTTP 401 and 403."""


class RateLimited(ApiError):
    """Too many requests or tokens for now; HTTP 429."""


class ServerFailed(ApiError):
    """The server is at fault, or answered what no client can read."""


def api_error(response: httpx.Response) -> ApiError:
    """The error that a read response without success is."""
    status = response.status_code
    kind: type[ApiError] = ServerFailed
    if status == 429:
        kind = RateLimited
    elif status in (401, 403):
        kind = NotAllowed
    elif 400 <= status < 500:
        kind = InvalidRequest
    return kind(str(response.url), status, _error_object(response), response.content)


def _error_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}
