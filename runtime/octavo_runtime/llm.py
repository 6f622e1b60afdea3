"""Offline use: generate for a list of prompts in this very process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from octavo_runtime.chat_template import load_chat_template
from octavo_runtime.config import EngineConfig, explain
from octavo_runtime.detokenizer import Detokenizer
from octavo_runtime.engine import Engine
from octavo_runtime.messages import FinishReason, Output
from octavo_runtime.model.files import locate
from octavo_runtime.sampling_params import SamplingParams
from octavo_runtime.tokenizer import load_tokenizer

Prompt = str | Sequence[int]
Message = Mapping[str, Any]


@dataclass
class Completion:
    """One answer."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None


@dataclass
class RequestOutput:
    """A prompt and its answers."""

    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[Completion]


class LLM:
    """A model loaded in this process. Keyword arguments are EngineConfig's fields; ValueError names a bad one."""

    def __init__(self, model: str, **config: Any) -> None:
        try:
            self.config = EngineConfig(model=model, **config)
        except ValidationError as error:
            raise ValueError(explain(error)) from None
        files = locate(model)
        self.tokenizer = load_tokenizer(files)
        self._chat_template = load_chat_template(files)
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
        listed: list[Any] = [prompts] if _is_single(prompts) else list(prompts)
        many = [params or SamplingParams()] * len(listed) if not isinstance(params, Sequence) else list(params)
        if len(many) != len(listed):
            raise ValueError(f"params: must be one, or as many as the {len(listed)} prompts, got {len(many)}")
        encoded = [
            self.tokenizer.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else list(prompt)
            for prompt in listed
        ]
        results = self._run(encoded, many, progress=progress)
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
        return self._run(encoded, [params or SamplingParams()] * len(encoded), progress=progress)

    def _run(
        self, prompts: Sequence[list[int]], params: Sequence[SamplingParams], *, progress: bool
    ) -> list[RequestOutput]:
        answers: dict[str, tuple[Completion, Detokenizer]] = {}
        results = []
        try:
            for prompt, one in zip(prompts, params, strict=True):
                request_id = f"offline-{next(self._ids)}"
                self._engine.add_request(request_id, prompt, one)
                completion = Completion("", [])
                answers[request_id] = completion, Detokenizer(self.tokenizer, stop=one.stop)
                results.append(RequestOutput(None, prompt, [completion]))
            self._drain(answers, show=progress and len(results) > 1)
        finally:
            for request_id in answers:  # what is left after an error or Ctrl-C
                self._engine.abort(request_id)
        return results

    def _drain(self, answers: Mapping[str, tuple[Completion, Detokenizer]], *, show: bool) -> None:
        columns = (
            TextColumn("Generating"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[speed]:.0f} tok/s"),
        )
        with Progress(*columns, disable=not show) as bar:
            task = bar.add_task("", total=len(answers), speed=0.0)
            tokens = 0
            while self._engine.has_work:
                for output in self._engine.step():
                    completion, detokenizer = answers[output.request_id]
                    tokens += len(output.token_ids)
                    if self._collect(output, completion, detokenizer):
                        bar.advance(task)
                elapsed = bar.tasks[task].elapsed or 0.0
                bar.update(task, speed=tokens / elapsed if elapsed else 0.0)

    def _collect(self, output: Output, completion: Completion, detokenizer: Detokenizer) -> bool:
        """Adds an output to its answer; True when the answer is complete."""
        completion.token_ids += output.token_ids
        completion.finish_reason = output.finish_reason
        completion.text += detokenizer.add(
            output.token_ids,
            finished=output.finish_reason is not None,
            stopped_by_token=output.finish_reason == "stop",
        )
        if detokenizer.stopped and output.finish_reason is None:
            self._engine.abort(output.request_id)
        if detokenizer.stopped:
            completion.finish_reason = "stop"
        return completion.finish_reason is not None


def _is_single(prompts: Prompt | Sequence[Prompt]) -> bool:
    return isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], int))
