"""A bound on the size of request bodies, held before any of it is parsed."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo_runtime.server.errors import ApiError

MAX_BODY_BYTES = 16 * 2**20


class BodyLimit:
    """ASGI middleware: a body over MAX_BODY_BYTES is an ApiError 413 when the application reads it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, counting its body (ASGI)."""
        length = next((value for name, value in scope.get("headers", ()) if name == b"content-length"), b"0")
        announced = int(length) if length.isdigit() else 0
        received = 0

        async def counted() -> Message:
            nonlocal received
            if announced > MAX_BODY_BYTES:
                raise _too_large(announced)
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise _too_large(received)
            return message

        await self._app(scope, counted, send)


def _too_large(size: int) -> ApiError:
    message = f"the body must have at most {MAX_BODY_BYTES} bytes, got {size}"
    return ApiError(413, message, code="request_too_large", headers={"Connection": "close"})
