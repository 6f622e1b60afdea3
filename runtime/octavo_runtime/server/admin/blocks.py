"""GET /debug/blocks: who holds which block of the KV cache now, for `octavo debug blocks`."""

import msgspec
from fastapi import APIRouter, Response

from octavo_runtime.engine_process.client import EngineFailure
from octavo_runtime.server.http.errors import unavailable
from octavo_runtime.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    """The block map's route; no part of the published API."""
    routes = APIRouter()

    @routes.get("/debug/blocks", include_in_schema=False)
    async def block_map() -> Response:
        if state.model is None:
            raise unavailable("the model is loading", retry_after=2)
        if (problem := state.engine.problem()) is not None:
            raise unavailable(f"the engine is not available: {problem}", retry_after=10)
        try:
            with state.answer():  # else nothing would end it where the engine hangs
                blocks = await state.engine.block_map()
        except EngineFailure as error:
            raise unavailable(f"the engine is not available: {error}", retry_after=10) from None
        return Response(msgspec.json.encode(blocks), media_type="application/json")

    return routes
