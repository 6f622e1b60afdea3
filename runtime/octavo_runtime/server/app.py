"""The HTTP application: routes, error handlers and middleware put together."""

from fastapi import FastAPI

from octavo_runtime import __version__
from octavo_runtime.server import blocks, chat, completions, health, metrics_endpoint, models
from octavo_runtime.server.body_limit import BodyLimit
from octavo_runtime.server.errors import add_error_handlers
from octavo_runtime.server.state import ServerState


def create_app(state: ServerState) -> FastAPI:
    """The application that serves `state`."""
    app = FastAPI(title="Octavo", version=__version__, redirect_slashes=False)
    for routes in (chat, completions, models, health, blocks):
        app.include_router(routes.router(state))
    app.include_router(metrics_endpoint.router(state.metrics))
    add_error_handlers(app, on_rejected=state.metrics.rejected)
    app.add_middleware(BodyLimit)
    return app
