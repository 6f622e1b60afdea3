"""Offline use: answers to a list of prompts, or their embeddings, in this very process."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from octavo_runtime.answers import Answers, RequestOutput, request_exception
from octavo_runtime.chat_template import load_chat_template
from octavo_runtime.config import engine_config
from octavo_runtime.engine import Engine
from octavo_runtime.messages import Output
from octavo_runtime.model.files import locate
from octavo_runtime.pooling_params import Pooling, PoolingParams
from octavo_runtime.sampling_defaults import load_sampling_defaults
from octavo_runtime.sampling_params import SamplingParams
from octavo_runtime.tokenizer import load_tokenizer, resolve_params
from octavo_runtime.tokenizer_conversion import tokenizer_files

Prompt = str | Sequence[int]
Message = Mapping[str, Any]


class LLM:
    """A model loaded in this process. Keyword arguments are EngineConfig's fields; ValueError names a bad one.

    default_params: what answers without parameters of their own are sampled with."""

    def __init__(self, model: str, **config: Any) -> None:
        self.config = engine_config(model, **config)
        files = locate(model)
        text = tokenizer_files(self.config, files)
        self.tokenizer = load_tokenizer(text)
        self._chat_template = load_chat_template(text)
        self.default_params = SamplingParams(**load_sampling_defaults(self.config, files))
        self._engine = Engine(self.config, files)
        self._ids = count()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = True,
    ) -> list[RequestOutput]:
        """Answers to text or token prompts, in their order; all of them run as one continuous batch.

        `params` holds for every prompt, or is a list of one for each. InvalidParameter when a prompt or parameter is
        out of bounds; then nothing has run."""
        listed = _listed(prompts)
        many = [params or self.default_params] * len(listed) if not isinstance(params, Sequence) else list(params)
        if len(many) != len(listed):
            raise ValueError(f"params: must be one, or as many as the {len(listed)} prompts, got {len(many)}")
        results = self._run([self._encode(prompt) for prompt in listed], many, progress=progress)
        for result, prompt in zip(results, listed, strict=True):
            result.prompt = prompt if isinstance(prompt, str) else None
        return results

    def chat(
        self,
        conversations: Sequence[Message] | Sequence[Sequence[Message]],
        params: SamplingParams | None = None,
        *,
        progress: bool = True,
    ) -> list[RequestOutput]:
        """Answers to one conversation (a list of role and content messages) or to several, through the chat
        template."""
        single = bool(conversations) and isinstance(conversations[0], Mapping)
        listed: Any = [conversations] if single else conversations
        encoded = [self._chat_template.encode(messages, self.tokenizer) for messages in listed]
        return self._run(encoded, [params or self.default_params] * len(encoded), progress=progress)

    def embed(
        self,
        prompts: Prompt | Sequence[Prompt],
        pooling: Pooling = "mean",
        normalize: bool = True,
        *,
        progress: bool = True,
    ) -> npt.NDArray[np.float32]:
        """The embeddings of text or token prompts, [prompts, hidden_size], in their order (see PoolingParams); all of
        them run as one continuous batch. InvalidParameter when a prompt or parameter is out of bounds; then nothing
        has run."""
        params = PoolingParams(pooling=pooling, normalize=normalize)
        embeddings: dict[str, bytes] = {}
        try:
            for prompt in _listed(prompts):
                request_id = f"offline-{next(self._ids)}"
                self._engine.add_embedding(request_id, self._encode(prompt), params)
                embeddings[request_id] = b""
            self._drain_embeddings(embeddings, show=progress and len(embeddings) > 1)
        finally:
            for request_id in embeddings:  # what is left after an error or Ctrl-C
                self._engine.abort(request_id)
        flat = np.frombuffer(b"".join(embeddings.values()), "<f4").astype(np.float32)
        return flat.reshape(len(embeddings), self._engine.ready.hidden_size)

    def _encode(self, prompt: Prompt) -> list[int]:
        return self.tokenizer.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else list(prompt)

    def _run(
        self, prompts: Sequence[list[int]], params: Sequence[SamplingParams], *, progress: bool
    ) -> list[RequestOutput]:
        running: dict[str, Answers] = {}
        asked = []
        try:
            for prompt, one in zip(prompts, params, strict=True):
                request_id, resolved = f"offline-{next(self._ids)}", resolve_params(one, self.tokenizer)
                self._engine.add_request(request_id, prompt, resolved)
                running[request_id] = Answers(self.tokenizer, resolved)
                asked.append(resolved.truncate(prompt))
            self._drain(running, show=progress and len(running) > 1)
        finally:
            for request_id in running:  # what is left after an error or Ctrl-C
                self._engine.abort(request_id)
        return [answers.request_output(None, prompt) for answers, prompt in zip(running.values(), asked, strict=True)]

    def _drain(self, running: Mapping[str, Answers], *, show: bool) -> None:
        speed = TextColumn("{task.fields[speed]:.0f} tok/s")
        with Progress(*_columns("Generating"), speed, disable=not show) as bar:
            task = bar.add_task("", total=len(running), speed=0.0)
            tokens = 0
            while self._engine.has_work:
                for output in self._engine.step():
                    tokens += len(output.token_ids)
                    self._collect(output, running[output.request_id])
                elapsed = bar.tasks[task].elapsed or 0.0
                finished = sum(answers.finished for answers in running.values())
                bar.update(task, completed=finished, speed=tokens / elapsed if elapsed else 0.0)

    def _drain_embeddings(self, embeddings: dict[str, bytes], *, show: bool) -> None:
        with Progress(*_columns("Embedding"), disable=not show) as bar:
            task = bar.add_task("", total=len(embeddings))
            while self._engine.has_work:
                for output in self._engine.step():
                    if output.error is not None:
                        raise request_exception(output.error)
                    assert output.embedding is not None
                    embeddings[output.request_id] = output.embedding
                    bar.advance(task)

    def _collect(self, output: Output, answers: Answers) -> None:
        if output.error is not None:
            raise request_exception(output.error)
        delta = answers.add(output)
        if delta is not None and delta.stopped:
            self._engine.abort(output.request_id, output.index)


def _listed(prompts: Prompt | Sequence[Prompt]) -> list[Any]:
    is_single = isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], int))
    return [prompts] if is_single else list(prompts)


def _columns(doing: str) -> tuple[ProgressColumn, ...]:
    return TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
