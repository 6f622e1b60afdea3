"""What the routes share: the model, the engine, and whether requests are welcome."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from octavo_runtime.engine_process.client import EngineClient
from octavo_runtime.protocol.text_task import Task, TextTask
from octavo_runtime.server.http.errors import ApiError, invalid, model_not_found, unavailable
from octavo_runtime.server.http.record import RequestRecord, current_request
from octavo_runtime.server.observe.metrics import ServerMetrics
from octavo_runtime.server.tools.answer_style import AnswerStyle
from octavo_runtime.text.chat_template import ChatTemplate
from octavo_runtime.text.sampling_defaults import SamplingDefaults
from octavo_runtime.text.tokenizer import Tokenizer

_DOES: dict[Task, str] = {
    "generate": "generates text, and gives no scores by labels: it serves /v1/chat/completions, /v1/completions, "
    "/v1/responses, /v1/messages, /v1/embeddings, /v1/rerank and /v1/score",
    "embed": "embeds texts: it serves /v1/embeddings, /v1/rerank and /v1/score",
    "score": "scores texts: it serves /v1/rerank, /v1/score and /v1/classify",
}


@dataclass(frozen=True)
class ServedModel:
    """A loaded model. max_model_len: most tokens of a request, prompt and answer together. defaults: of requests that
    leave sampling parameters out. name: what the request that asks for it calls it."""

    tokenizer: Tokenizer
    template: ChatTemplate
    max_model_len: int
    vocab_size: int
    style: AnswerStyle
    defaults: SamplingDefaults
    task: TextTask = field(default_factory=TextTask)
    name: str = ""


@dataclass
class ServerState:
    """One server's state. `aliases`: what clients may call the model by too, which is not listed. `model` is None while
    it loads. `all_serve`: whether every API process of this server has its model; a client that saw one of them ready
    may be answered by another. `ping_seconds`: how long a stream may be silent, 0 for any time. `log_prompts`: whether
    prompts stand in the log."""

    names: list[str]
    engine: EngineClient
    metrics: ServerMetrics
    aliases: frozenset[str] = frozenset()
    model: ServedModel | None = None
    all_serve: Callable[[], bool] = lambda: True
    draining: bool = False
    ping_seconds: float = 0.0
    log_prompts: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    _answering: dict[asyncio.Task[object], RequestRecord] = field(default_factory=dict)

    def model_for(self, name: str | None, *tasks: Task) -> ServedModel:
        """The model that a request names, or the one that is served, for one of the tasks that it was made for; none:
        for any. Raises ApiError: unknown name, still loading, stopping, engine gone, or made for something else."""
        name = name or self.names[0]  # an empty one is none, as for vLLM
        if self.draining:
            raise unavailable("the server is shutting down", retry_after=1, close=True)
        if (problem := self.engine.problem()) is not None:
            raise unavailable(f"the engine is not available: {problem}", retry_after=10)
        if self.model is None:
            raise unavailable("the model is loading", retry_after=2)
        self.check_name(name)
        if tasks and self.model.task.task not in tasks:
            raise invalid("model", f"{name[:100]!r} {_DOES[self.model.task.task]}", "model_not_supported")
        current_request().model = name
        return replace(self.model, name=name)

    def check_name(self, name: str) -> None:
        """Raises ApiError where no model is served by that name."""
        if name not in self.names and name not in self.aliases:
            raise model_not_found(name, self.names)

    def unready(self) -> str | None:
        """None when requests are welcome; else why not."""
        if self.draining:
            return "shutting down"
        if (problem := self.engine.problem()) is not None:
            return problem
        return None if self.model is not None and self.all_serve() else "loading"

    @property
    def answering(self) -> int:
        """How many answers are being made."""
        return len(self._answering)

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Around the making of one answer: `cut` ends it with an ApiError."""
        task, record = asyncio.current_task(), current_request()
        assert task is not None
        self._answering[task] = record
        try:
            yield
        except asyncio.CancelledError:
            if record.cut is None:
                raise
            task.uncancel()
            raise record.cut from None
        finally:
            del self._answering[task]

    def cut(self, error: ApiError) -> None:
        """Ends every answer that is still being made, with an error that its client sees."""
        for task, record in self._answering.items():
            if record.cut is None:
                record.cut = error
                task.cancel()
