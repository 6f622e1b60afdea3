"""The models as Anthropic's clients read them (docs.anthropic.com/en/api/models-list)."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

VERSION_HEADER = "anthropic-version"
"""Anthropic's clients send it with every request, and no others do."""


class ModelInfo(BaseModel):
    """A name that the model is served by. max_input_tokens, max_tokens: the bound of both together, null while it
    loads."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str
    max_input_tokens: int | None
    max_tokens: int | None


class ModelInfoList(BaseModel):
    """All served names: one page."""

    data: list[ModelInfo]
    has_more: Literal[False] = False
    first_id: str
    last_id: str


def model_info(name: str, created: int, max_model_len: int | None) -> ModelInfo:
    """created: seconds since 1970."""
    since = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ModelInfo(
        id=name, display_name=name, created_at=since, max_input_tokens=max_model_len, max_tokens=max_model_len
    )


def model_info_list(models: list[ModelInfo]) -> ModelInfoList:
    """The page that holds `models`, at least one."""
    return ModelInfoList(data=models, first_id=models[0].id, last_id=models[-1].id)
