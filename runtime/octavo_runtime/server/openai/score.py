"""POST /v1/score and /v1/classify, in vLLM's shapes (docs.vllm.ai, "Score API" and "Classification API")."""

import time
import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.server.fields.nulls import null_is_absent
from octavo_runtime.server.fields.prompts import listed
from octavo_runtime.server.fields.text import Text
from octavo_runtime.server.generation.bounds import (
    MOST_INPUTS,
    TRUNCATES,
    Inputs,
    Priority,
    TruncateTo,
    check_prompt,
    check_text,
    cut_to,
    read_tokens,
)
from octavo_runtime.server.generation.scoring import INSTRUCTION, Texts, Wish, score_pairs
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.vectors import Place, Reading, read_all
from octavo_runtime.server.http.errors import invalid
from octavo_runtime.server.http.streaming import whole_answer
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.text.pairs import activated, unpacked

_Many = Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS)]


class ScoreRequest(BaseModel):
    """Strict: a field that nobody defines is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Default: the served one.")
    text_1: Text | _Many = Field(description="One text, which is scored with each of text_2, or one for each of them.")
    text_2: Text | _Many
    use_activation: bool = Field(
        True, description="Whether the model's activation, such as a sigmoid, makes the scores. Off: the bare numbers."
    )
    truncate_prompt_tokens: TruncateTo | None = Field(None, description=TRUNCATES)
    user: Text | None = Field(None, description="Without effect.")
    instruction: Text | None = Field(None, description=INSTRUCTION)
    priority: Priority = Field(0, description="Lower goes first, where the engine's scheduling policy is priority.")
    _nulls = null_is_absent


class ClassifyRequest(BaseModel):
    """Strict: a field that nobody defines is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Default: the served one.")
    input: Inputs
    use_activation: bool = Field(True, description="Whether the numbers are probabilities. Off: the bare numbers.")
    truncate_prompt_tokens: TruncateTo | None = Field(None, description=TRUNCATES)
    user: Text | None = Field(None, description="Without effect.")
    priority: Priority = Field(0, description="Lower goes first, where the engine's scheduling policy is priority.")
    _nulls = null_is_absent


class Score(BaseModel):
    """The score of one pair. index: its place in the request."""

    index: int
    object: Literal["score"] = "score"
    score: float


class Classification(BaseModel):
    """One text. label: of the largest number. index: its place in the request."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class ScoreUsage(BaseModel):
    """Tokens of all that was read."""

    prompt_tokens: int
    total_tokens: int


class ScoreList(BaseModel):
    """The scores, in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: ScoreUsage


class ClassificationList(BaseModel):
    """The classifications, in the order of the inputs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classification]
    usage: ScoreUsage


def router(state: ServerState) -> APIRouter:
    """The routes of one server that bring scores."""
    routes = APIRouter(tags=["scores"])

    @routes.post("/score", response_model=ScoreList)
    @routes.post("/v1/score", response_model=ScoreList)
    async def score(body: ScoreRequest, request: Request) -> Response:
        """How alike the texts of each pair are, or how well the second answers the first."""
        model = state.model_for(body.model, "generate", "embed", "score")
        return await whole_answer(state, request, _scores(state, model, body))

    @routes.post("/classify", response_model=ClassificationList)
    @routes.post("/v1/classify", response_model=ClassificationList)
    async def classify(body: ClassifyRequest, request: Request) -> Response:
        """What a model with labels makes of each text."""
        model = state.model_for(body.model, "score")
        return await whole_answer(state, request, _classifications(state, model, body))

    return routes


async def _scores(state: ServerState, model: ServedModel, body: ScoreRequest) -> ScoreList:
    first, second = _side(body.text_1, "text_1"), _side(body.text_2, "text_2")
    if len(first.texts) not in (1, len(second.texts)):
        given = f"must be one text or as many as text_2 ({len(second.texts)}), got {len(first.texts)}"
        raise invalid("text_1", given)
    wish = Wish(body.truncate_prompt_tokens, body.use_activation, body.priority, body.instruction)
    scores = await score_pairs(state, model, first, second, wish)
    return ScoreList(
        id=f"score-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=model.name,
        data=[Score(index=index, score=value) for index, value in enumerate(scores.values)],
        usage=ScoreUsage(prompt_tokens=scores.tokens, total_tokens=scores.tokens),
    )


def _side(texts: str | list[str], field: str) -> Texts:
    return Texts([texts], field, single=True) if isinstance(texts, str) else Texts(texts, field, single=False)


async def _classifications(state: ServerState, model: ServedModel, body: ClassifyRequest) -> ClassificationList:
    readings = await in_thread(_readings, model, body)
    activation = model.task.activation if body.use_activation else "identity"

    def classified(index: int, vector: bytes) -> Classification:
        numbers = activated(unpacked(vector).tolist(), activation)
        label = model.task.labels[numbers.index(max(numbers))]
        return Classification(index=index, label=label, probs=numbers, num_classes=len(numbers))

    data = await read_all(state, model, readings, Place(body.priority, "", "input"), classified)
    tokens = sum(len(one.tokens) for one in readings)
    return ClassificationList(
        id=f"classify-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=model.name,
        data=data,
        usage=ScoreUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _readings(model: ServedModel, body: ClassifyRequest) -> list[Reading]:
    most, inputs = cut_to(model, body.truncate_prompt_tokens), listed(body.input)
    readings: list[Reading] = []
    for index, one in enumerate(inputs):
        field = "input" if len(inputs) == 1 else f"input.{index}"
        if isinstance(one, str):
            check_text(model, len(one), field, most)
        tokens = read_tokens(model, one, True, most)
        check_prompt(model, tokens, field, answered=False)
        readings.append(Reading(tokens, PoolingParams()))
    return readings
