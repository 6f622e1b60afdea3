"""GET /v1/models and /v1/models/{id}, in OpenAI's shape, and in Anthropic's for their clients."""

from typing import Annotated

from fastapi import APIRouter, Header

from octavo_runtime.server.anthropic.models import (
    VERSION_HEADER,
    ModelInfo,
    ModelInfoList,
    model_info,
    model_info_list,
)
from octavo_runtime.server.openai.objects import Model, ModelList
from octavo_runtime.server.state import ServerState

_Version = Annotated[str | None, Header(alias=VERSION_HEADER)]


def router(state: ServerState) -> APIRouter:
    """The model routes of one server."""
    routes = APIRouter(tags=["models"])

    def limit() -> int | None:
        return None if state.model is None else state.model.max_model_len

    def openai(name: str) -> Model:
        task = None if state.model is None else state.model.task.task
        return Model(id=name, created=state.created, max_model_len=limit(), task=task)

    def anthropic(name: str) -> ModelInfo:
        return model_info(name, state.created, limit())

    @routes.get("/v1/models")
    async def list_models(version: _Version = None) -> ModelList | ModelInfoList:
        """The names that the model is served by."""
        if version is not None:
            return model_info_list([anthropic(name) for name in state.names])
        return ModelList(data=[openai(name) for name in state.names])

    @routes.get("/v1/models/{name:path}")
    async def get_model(name: str, version: _Version = None) -> Model | ModelInfo:
        """One name."""
        state.check_name(name)
        return openai(name) if version is None else anthropic(name)

    return routes
