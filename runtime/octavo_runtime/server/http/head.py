"""HEAD wherever there is GET (RFC 9110, 9.1)."""

from starlette.types import ASGIApp, Receive, Scope, Send


class HeadLikeGet:
    """ASGI middleware: what HEAD asks for is answered as to GET. The server itself sends no body to HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on (ASGI)."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
