"""How every error of the application becomes an answer."""

import sys
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.server.http.errors import ApiError, error_response, invalid, invalid_parameter
from octavo_runtime.server.http.invalid_body import invalid_body


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
        problem = invalid_body(error.errors(), request.headers.get("content-type"))
        return error_response(request.url.path, problem)

    async def on_invalid_parameter(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, InvalidParameter)
        on_rejected()
        return error_response(request.url.path, invalid_parameter(error.field, error.reason))

    async def on_bug(request: Request, _error: Exception) -> JSONResponse:
        return error_response(request.url.path, ApiError(500, "internal error; the server's log has its cause"))

    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(InvalidParameter, on_invalid_parameter)
    app.add_exception_handler(Exception, on_bug)


def _from_framework(request: Request, error: HTTPException) -> ApiError:
    if error.status_code == 404:
        path = request.url.path[:200].encode("unicode_escape").decode()  # it may hold line ends
        return ApiError(404, f"no such endpoint: {request.method} {path}")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return ApiError(405, f"{request.method} is not allowed here; allowed: {allowed}", headers=error.headers)
    if isinstance(error.__cause__, UnicodeDecodeError):
        return invalid(None, f"the body must be JSON in UTF-8, and has other bytes at {error.__cause__.start}")
    if isinstance(error.__cause__, ValueError):  # of Python's conversion of digits, which has a bound
        return invalid(None, f"the body must have no number of more than {sys.get_int_max_str_digits()} digits")
    return ApiError(error.status_code, str(error.detail), headers=error.headers)
