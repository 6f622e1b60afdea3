"""Metrics on a port of their own, so that a network policy can tell who scrapes from who asks the model."""

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo_runtime.server.http.errors import ApiError, error_response

METRICS = "/metrics"


class MetricsPort:
    """ASGI middleware: answers /metrics on this port and nothing else there, and 404 to it on any other."""

    def __init__(self, app: ASGIApp, *, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 404 in its place (ASGI)."""
        if scope["type"] == "http":
            came_for_metrics = scope["server"][1] == self._port
            if came_for_metrics != (scope["path"] == METRICS):
                said = "this port serves /metrics alone" if came_for_metrics else f"is served on port {self._port}"
                await error_response(scope["path"], ApiError(404, f"{scope['path']}: {said}"))(scope, receive, send)
                return
        await self._app(scope, receive, send)
