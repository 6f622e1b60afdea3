"""GET /health/live, /health/ready, /health and /version, for Kubernetes and for people."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from octavo_runtime import __version__
from octavo_runtime.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    """The health routes of one server."""
    routes = APIRouter(tags=["health"])

    @routes.get("/health/live")
    async def live() -> JSONResponse:
        """Red when the engine is dead or hung: a restart is the cure."""
        problem = state.engine.problem()
        return _health("alive" if problem is None else problem, problem is None)

    @routes.get("/health/ready")
    @routes.get("/health")
    async def ready() -> JSONResponse:
        """Green when the model answers and new requests are welcome."""
        reason = state.unready()
        return _health("ready" if reason is None else reason, reason is None)

    @routes.get("/version")
    async def version() -> dict[str, str]:
        """Octavo's version."""
        return {"version": __version__}

    return routes


def _health(status: str, ok: bool) -> JSONResponse:
    return JSONResponse({"status": status}, 200 if ok else 503)
