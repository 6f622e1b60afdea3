"""The HTTP application: routes, error handlers and middleware put together."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from octavo_runtime import __version__
from octavo_runtime.config.server import ServerConfig
from octavo_runtime.config.units import parse_duration, parse_quantity
from octavo_runtime.server.access.guard import RATE_LIMIT_HEADERS, Guard
from octavo_runtime.server.access.host_names import HostNames
from octavo_runtime.server.access.keys import ApiKeys
from octavo_runtime.server.access.metrics_port import MetricsPort
from octavo_runtime.server.admin import blocks, docs_page, health, load, models
from octavo_runtime.server.anthropic import routes as messages
from octavo_runtime.server.http.bounds import RequestBounds
from octavo_runtime.server.http.error_handlers import add_error_handlers
from octavo_runtime.server.http.head import HeadLikeGet
from octavo_runtime.server.http.security_headers import SecurityHeaders
from octavo_runtime.server.observe import metrics as metrics_endpoint
from octavo_runtime.server.observe.request_log import IGNORED_HEADER
from octavo_runtime.server.openai import chat, completions, embeddings, rerank, score, tokenize
from octavo_runtime.server.responses import routes as responses
from octavo_runtime.server.state import ServerState
from octavo_runtime.server.ui import page


def create_app(state: ServerState, config: ServerConfig, keys: ApiKeys) -> ASGIApp:
    """The application that serves `state` to those whom `keys` let in."""
    app = FastAPI(title="Octavo", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    generating = (chat, completions, responses, messages)
    for routes in (*generating, embeddings, rerank, score, tokenize, models, health, load, blocks):
        app.include_router(routes.router(state))
    app.include_router(docs_page.router())
    app.include_router(metrics_endpoint.router(state.metrics))
    if config.ui:
        app.include_router(page.router())
    add_error_handlers(app, on_rejected=state.metrics.rejected)
    # From the inside out: a request is read once it is known who sends it.
    app.add_middleware(
        RequestBounds,
        max_body=parse_quantity(config.max_body),
        read_seconds=parse_duration(config.client_timeout),
        on_rejected=state.metrics.rejected,
    )
    app.add_middleware(Guard, keys=keys, metrics=state.metrics, guard_metrics=config.guard_metrics)
    if config.cors_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origin,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Request-Id", IGNORED_HEADER, *RATE_LIMIT_HEADERS],
        )
    app.add_middleware(
        HostNames,
        keys=keys,
        bound_to=config.host,
        allowed=config.allowed_host,
        on_rejected=state.metrics.rejected,
    )
    if config.metrics_port is not None:
        app.add_middleware(MetricsPort, port=config.metrics_port)
    return SecurityHeaders(HeadLikeGet(app))
