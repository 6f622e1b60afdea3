"""Every error a client can meet, in OpenAI's shape, {"error": {"message", "type", "param", "code"}}, or where the route
is Anthropic's in theirs."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.server.fields.text import encodable
from octavo_runtime.server.http.error_shapes import PATHS, anthropic_error
from octavo_runtime.server.http.record import current_request

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_TYPE_NAMES = ("str", "int", "float", "bool")


class ApiError(HTTPException):
    """A refusal or failure that a client sees. `param`: the field at fault; `code`: a word for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.body = _body(status, message, param, code)


def invalid(message: str, param: str | None, code: str | None = None) -> ApiError:
    """A request that breaks a rule; HTTP 400."""
    return ApiError(400, message, param=param, code=code)


def unauthorized() -> ApiError:
    """A request without one of the server's keys; HTTP 401."""
    message = "a valid API key is required, as Authorization: Bearer KEY or x-api-key: KEY"
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def model_not_found(name: str, served: list[str]) -> ApiError:
    """A request for a model that is not served here; HTTP 404."""
    message = f"model: {name[:100]!r} is not served here; there is: {', '.join(served)}"
    return ApiError(404, message, param="model", code="model_not_found")


def unavailable(message: str, *, retry_after: int, close: bool = False, code: str = "service_unavailable") -> ApiError:
    """The server cannot answer now; HTTP 503. retry_after in seconds; close ends the connection."""
    headers = {"Retry-After": str(retry_after), **({"Connection": "close"} if close else {})}
    return ApiError(503, message, code=code, headers=headers)


def overloaded(message: str, *, retry_after: int) -> ApiError:
    """As many requests wait as may; HTTP 429. retry_after in seconds."""
    return ApiError(429, message, code="overloaded", headers={"Retry-After": str(retry_after)})


def deadline_exceeded(message: str) -> ApiError:
    """The request's own time limit is over; HTTP 504."""
    return ApiError(504, message, code="deadline_exceeded")


def engine_failed(message: str) -> ApiError:
    """The engine died or refused in the middle of an answer; HTTP 500."""
    return ApiError(500, message, code="engine_error")


def add_error_handlers(app: FastAPI, on_rejected: Callable[[], None]) -> None:
    """Makes every error of `app` come out in OpenAI's shape. `on_rejected` hears of each request refused as invalid."""

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if not isinstance(error, ApiError):
            return error_response(request.url.path, _from_framework(request, error))
        if error.status_code < 500:
            on_rejected()
        return error_response(request.url.path, error)

    async def on_invalid_request(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        on_rejected()
        problem = invalid(*explain(error.errors(), request.headers.get("content-type")))
        return error_response(request.url.path, problem)

    async def on_invalid_parameter(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InvalidParameter)
        on_rejected()
        return error_response(request.url.path, invalid(str(error), error.field))

    async def on_bug(request: Request, _error: Exception) -> JSONResponse:
        return error_response(request.url.path, ApiError(500, "internal error; the server's log has its cause"))

    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(InvalidParameter, on_invalid_parameter)
    app.add_exception_handler(Exception, on_bug)


def error_response(path: str, error: ApiError) -> JSONResponse:
    """`error` as the clients of `path` read it: in Anthropic's shape for /v1/messages, in OpenAI's elsewhere."""
    body = error.body
    if path.startswith(PATHS):
        body = anthropic_error(error.status_code, body["error"]["message"], current_request().id)
    return JSONResponse(body, error.status_code, error.headers)


def _from_framework(request: Request, error: HTTPException) -> ApiError:
    if error.status_code == 404:
        path = request.url.path[:200].encode("unicode_escape").decode()  # it may hold line ends
        return ApiError(404, f"no such endpoint: {request.method} {path}")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return ApiError(405, f"{request.method} is not allowed here; allowed: {allowed}", headers=error.headers)
    if isinstance(error.__cause__, UnicodeDecodeError):
        return invalid(f"the body must be JSON in UTF-8, and has other bytes at {error.__cause__.start}", None)
    if isinstance(error.__cause__, ValueError):  # of Python's conversion of digits, which has a bound
        return invalid(f"the body must have no number of more than {sys.get_int_max_str_digits()} digits", None)
    return ApiError(error.status_code, str(error.detail), headers=error.headers)


def explain(errors: Sequence[Any], content_type: str | None) -> tuple[str, str | None]:
    """What is wrong with a request body, and the field at fault: field, rule and value in one line."""
    # Where a field may have several types each of them reports; the report from deepest inside fits the value best.
    error = max(errors, key=lambda error: len(error["loc"]))
    kind, place = error["type"], error["loc"][1:]
    if kind == "json_invalid":
        return f"the body is not valid JSON: {error['ctx']['error']} at character {place[0]}", None
    if not place and kind == "missing":
        return "the body must be a JSON object, sent with Content-Type: application/json, got nothing", None
    if not place and isinstance(error["input"], bytes):
        return f"the body must be JSON, sent with Content-Type: application/json, got {content_type!r:.100}", None
    if not place and kind in ("model_attributes_type", "model_type", "dict_type"):
        return f"the body must be a JSON object, got {_shown(error['input'])}", None
    if not place and kind == "string_unicode":
        return f"field names must be valid Unicode, got {_shown(error['input'])}", None
    last = len(place) - 1
    field = ".".join(str(part)[:100] for at, part in enumerate(place) if not _names_type(part, last=at == last))
    message = error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return f"{field}: unknown field", field
    if kind == "missing":
        return f"{field}: required", field
    if not field:  # a rule over several fields names them itself
        return message, message.partition(":")[0]
    message = message.removeprefix("Input ")
    got = "" if ", got " in message else f", got {_shown(error['input'])}"
    return f"{field}: {message[0].lower()}{message[1:]}{got}", field


def _names_type(part: str | int, *, last: bool) -> bool:
    """Whether a part of a place is one of the types that a field may have, such as a class, and no field."""
    text = str(part)
    return text in _TYPE_NAMES or "[" in text or (text[:1].isupper() and not last)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= 100 else text[:100] + "..."


def _body(status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    # A field's name from a client may hold halves of surrogate pairs, which no answer can carry.
    message, param = _one_line(encodable(message)), None if param is None else encodable(param)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _one_line(text: str) -> str:
    """`text` with what cannot be shown, such as the line ends and control characters of a field's name, spelt out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
