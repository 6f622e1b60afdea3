"""Every error a client can meet, in OpenAI's shape, {"error": {"message", "type", "param", "code"}}, or where the route
is Anthropic's in theirs."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from octavo_runtime.protocol.reason import Reason, as_text
from octavo_runtime.server.fields.text import encodable
from octavo_runtime.server.http.error_shapes import PATHS, anthropic_error
from octavo_runtime.server.http.record import current_request

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(HTTPException):
    """A refusal or failure that a client sees. `field`: the path of the one at fault; `reason`: what is said of it, or
    of the whole; `link`: what stands between both in the message; `code`: a word for programs."""

    def __init__(
        self,
        status: int,
        reason: Reason,
        *,
        field: str | None = None,
        link: str = ": ",
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, as_text(reason), headers)
        self.field = field
        self.reason = reason
        self.link = link
        self.code = code


def invalid(field: str | None, reason: Reason, code: str | None = None) -> ApiError:
    """A request that breaks a rule; HTTP 400."""
    return ApiError(400, reason, field=field, code=code)


def invalid_parameter(field: str | None, reason: Reason) -> ApiError:
    """A request with a parameter out of the engine's bounds, whose reasons read on from its name; HTTP 400."""
    return ApiError(400, reason, field=field, link=" ")


def unauthorized() -> ApiError:
    """A request without one of the server's keys; HTTP 401."""
    message = "a valid API key is required, as Authorization: Bearer KEY or x-api-key: KEY"
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def model_not_found(name: str, served: list[str]) -> ApiError:
    """A request for a model that is not served here; HTTP 404."""
    reason = f"{name[:100]!r} is not served here; there is: {', '.join(served)}"
    return ApiError(404, reason, field="model", code="model_not_found")


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


def error_response(path: str, error: ApiError) -> JSONResponse:
    """`error` as the clients of `path` read it: in Anthropic's shape for /v1/messages, in OpenAI's elsewhere."""
    if path.startswith(PATHS):
        body = anthropic_error(error.status_code, error_message(error), current_request().id)
    else:
        body = openai_error(error)
    return JSONResponse(body, error.status_code, error.headers)


def error_message(error: ApiError) -> str:
    """Field and reason in one line, each field by the name that the client knows it by."""
    name = current_request().field_name
    reason = as_text(error.reason, name)
    return _one_line(encodable(reason if error.field is None else f"{name(error.field)}{error.link}{reason}"))


def openai_error(error: ApiError) -> dict[str, Any]:
    """The body of an error in OpenAI's shape."""
    status = error.status_code
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    # A field's name from a client may hold halves of surrogate pairs, which no answer can carry.
    param = None if error.field is None else encodable(current_request().field_name(error.field))
    return {"error": {"message": error_message(error), "type": kind, "param": param, "code": error.code}}


def _one_line(text: str) -> str:
    """`text` with what cannot be shown, such as the line ends and control characters of a field's name, spelt out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
