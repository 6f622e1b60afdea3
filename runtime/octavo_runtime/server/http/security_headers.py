"""Headers that keep browsers from doing more with an answer than was meant."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A page here may use this server's own files alone, and be shown in no frame.
_POLICY = b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY),
)


class SecurityHeaders:
    """ASGI middleware: adds those of SECURITY_HEADERS that a response has not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and the answer with more headers (ASGI)."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                given = {name.lower() for name, _ in headers}
                headers += [header for header in SECURITY_HEADERS if header[0] not in given]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, secured)
