"""GET /load: how busy the server is, for balancers that ask before they choose."""

from fastapi import APIRouter
from pydantic import BaseModel

from octavo_runtime.server.state import ServerState


class ServerLoad(BaseModel):
    """server_load: answers in the making, as vLLM counts them. running, waiting: requests in the engine, of which
    running are computed now. kv_cache_usage: used share of the KV cache's blocks, from 0 to 1."""

    server_load: int
    running: int
    waiting: int
    kv_cache_usage: float


def router(state: ServerState) -> APIRouter:
    """The load route of one server."""
    routes = APIRouter(tags=["health"])

    @routes.get("/load", summary="How busy the server is")
    async def load() -> ServerLoad:
        """Figures of this replica alone."""
        engine = state.engine.load
        return ServerLoad(
            server_load=state.answering,
            running=engine.running,
            waiting=engine.waiting,
            kv_cache_usage=engine.blocks_used / max(engine.blocks_total, 1),
        )

    return routes
