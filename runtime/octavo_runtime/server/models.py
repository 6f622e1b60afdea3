"""GET /v1/models and /v1/models/{id}."""

from fastapi import APIRouter

from octavo_runtime.server.errors import model_not_found
from octavo_runtime.server.responses import Model, ModelList
from octavo_runtime.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    """The model routes of one server."""
    routes = APIRouter(tags=["models"])

    def describe(name: str) -> Model:
        limit = None if state.model is None else state.model.max_model_len
        return Model(id=name, created=state.created, max_model_len=limit)

    @routes.get("/v1/models")
    async def list_models() -> ModelList:
        """The names that the model is served by."""
        return ModelList(data=[describe(name) for name in state.names])

    @routes.get("/v1/models/{name:path}")
    async def get_model(name: str) -> Model:
        """One name."""
        if name not in state.names:
            raise model_not_found(name, state.names)
        return describe(name)

    return routes
