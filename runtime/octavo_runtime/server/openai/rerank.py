"""POST /v1/rerank: documents by how well they answer a query, in the shape of Cohere's and Jina's APIs and of vLLM
(docs.cohere.com/reference/rerank, jina.ai/reranker)."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from octavo_runtime.server.fields.nulls import is_null, null_is_absent
from octavo_runtime.server.fields.text import Text
from octavo_runtime.server.generation.bounds import MOST_INPUTS, TRUNCATES, Priority, TruncateTo
from octavo_runtime.server.generation.scoring import INSTRUCTION, Texts, Wish, score_pairs
from octavo_runtime.server.http.streaming import whole_answer
from octavo_runtime.server.state import ServedModel, ServerState


class Document(BaseModel):
    """A document that is ranked."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text


class RerankRequest(BaseModel):
    """Strict: a field that nobody defines is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="Default: the served one.")
    query: Text
    documents: Annotated[list[Text | Document], Field(min_length=1, max_length=MOST_INPUTS)]
    top_n: Annotated[int, Field(ge=0)] | None = Field(None, description="Only so many of the best. Default: all.")
    return_documents: bool = Field(True, description="Whether the results hold the documents' texts.")
    truncate_prompt_tokens: TruncateTo | None = Field(None, description=TRUNCATES)
    instruction: Text | None = Field(None, description=INSTRUCTION)
    priority: Priority = Field(0, description="Lower goes first, where the engine's scheduling policy is priority.")
    _nulls = null_is_absent


class RerankResult(BaseModel):
    """One document. index: its place in the request."""

    index: int
    document: Document | None = Field(None, exclude_if=is_null)
    relevance_score: float


class RerankUsage(BaseModel):
    """Tokens of all that was read."""

    prompt_tokens: int
    total_tokens: int


class Reranking(BaseModel):
    """The documents, the best one first."""

    id: str
    model: str
    usage: RerankUsage
    results: list[RerankResult]


def router(state: ServerState) -> APIRouter:
    """The rerank routes of one server."""
    routes = APIRouter(tags=["scores"])

    @routes.post("/rerank", response_model=Reranking)
    @routes.post("/v1/rerank", response_model=Reranking)
    @routes.post("/v2/rerank", response_model=Reranking)
    async def rerank(body: RerankRequest, request: Request) -> Response:
        """The documents by how well they answer the query."""
        model = state.model_for(body.model, "generate", "embed", "score")
        return await whole_answer(state, request, _reranking(state, model, body))

    return routes


async def _reranking(state: ServerState, model: ServedModel, body: RerankRequest) -> Reranking:
    texts = [one if isinstance(one, str) else one.text for one in body.documents]
    # The names under which sentence-transformers looks for the prompts of either side.
    query = Texts([body.query], "query", single=True, prompts=("query",))
    documents = Texts(texts, "documents", single=False, prompts=("document", "passage", "corpus"))
    wish = Wish(body.truncate_prompt_tokens, activate=True, priority=body.priority, instruction=body.instruction)
    scores = await score_pairs(state, model, query, documents, wish)
    best = sorted(range(len(texts)), key=lambda index: (-scores.values[index], index))
    shown: dict[int, Any] = {one: Document(text=texts[one]) if body.return_documents else None for one in best}
    return Reranking(
        id=f"rerank-{uuid.uuid4().hex}",
        model=model.name,
        usage=RerankUsage(prompt_tokens=scores.tokens, total_tokens=scores.tokens),
        results=[
            RerankResult(index=one, document=shown[one], relevance_score=scores.values[one])
            for one in best[: body.top_n or None]
        ],
    )
