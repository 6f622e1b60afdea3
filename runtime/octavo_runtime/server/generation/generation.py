"""From a checked request to the answers as they grow: to one prompt, or to several at once."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from octavo_runtime.engine_process.client import EngineFailure
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.generation.bounds import check_prompt, within_room
from octavo_runtime.server.generation.progress import Progress
from octavo_runtime.server.generation.refusal import FormField, refusal
from octavo_runtime.server.generation.request import GenerationRequest
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.usage import CompletionTokensDetails, PromptTokensDetails, Usage
from octavo_runtime.server.http.errors import engine_failed
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.observe.prompt_log import log_prompt
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.text.answers import Answers, Delta
from octavo_runtime.text.detokenizer import Preamble
from octavo_runtime.text.tokenizer import resolve_params

_LOGPROB_BYTES = 70  # in an answer, about
_FEW_LOGPROBS = 1024  # are written in a millisecond or two

_Arguments = ParamSpec("_Arguments")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Ask:
    """One prompt and what is asked of it. form_field: the request's own path of its structured output. preamble: see
    Answers."""

    prompt: list[int]
    params: SamplingParams
    priority: int
    cache_salt: str
    form_field: FormField
    preamble: Callable[[], Preamble] | None = None


def make_ask(
    model: ServedModel,
    body: GenerationRequest,
    prompt: list[int],
    field: str,
    params: SamplingParams,
    form_field: FormField,
    preamble: Callable[[], Preamble] | None = None,
) -> Ask:
    """What to ask of the engine for a prompt that request field `field` holds. form_field, preamble: see Ask. Raises
    ApiError where the prompt does not fit the model."""
    kept = params.truncate(prompt, model.max_model_len)
    check_prompt(model, kept, field, answered=True)
    fitting = within_room(model, kept, field, params, body.token_limit())
    resolved = resolve_params(fitting, model.tokenizer)
    return Ask(kept, resolved, body.priority, body.cache_salt or "", form_field, preamble)


class Generation:
    """The answers to one Ask in the making. `tokens`: how many were generated, of all answers together."""

    def __init__(self, state: ServerState, model: ServedModel, ask: Ask) -> None:
        self.ask = ask
        self.answers = Answers(model.tokenizer, ask.params, ask.preamble)
        self._state = state
        self._tokenizer = model.tokenizer
        self._progress = Progress(state.metrics, len(ask.prompt))
        self._id = uuid.uuid4().hex

    @property
    def tokens(self) -> int:
        return self._progress.tokens

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """What each of the engine's outputs brings, until all answers have ended. Closing the generator aborts them in
        the engine. Raises ApiError."""
        progress, ask, outcome = self._progress, self.ask, "aborted"
        progress.started()
        if self._state.log_prompts:
            log_prompt(self._tokenizer, ask.prompt)
        try:
            outputs = self._state.engine.generate(
                self._id, ask.prompt, ask.params, priority=ask.priority, cache_salt=ask.cache_salt
            )
            async with aclosing(outputs):
                async for output in outputs:
                    if output.error is not None:
                        outcome = "rejected" if output.error.kind == "invalid" else "error"
                        raise refusal(output.error, ask.form_field)
                    if (delta := self.answers.add(output)) is None:
                        continue
                    progress.grew(output)
                    if delta.stopped:
                        await self._state.engine.abort_answer(self._id, delta.index)
                    if delta.finish_reason is not None:
                        progress.answered(delta.finish_reason)
                    if self.answers.finished:
                        outcome = "success"
                    yield delta
        except EngineFailure as error:
            outcome = "error"
            raise engine_failed(str(error)) from None
        finally:
            progress.ended(outcome)


async def side_by_side(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Delta], None]:
    """Runs several generations at once: (which one, what it brings) as it comes."""
    if len(generations) == 1:
        async with aclosing(generations[0].deltas()) as deltas:
            async for delta in deltas:
                yield 0, delta
        return
    queue: asyncio.Queue[tuple[int, Delta | Exception | None]] = asyncio.Queue()

    async def forward(index: int) -> None:
        try:
            async with aclosing(generations[index].deltas()) as deltas:
                async for delta in deltas:
                    queue.put_nowait((index, delta))
            queue.put_nowait((index, None))
        except Exception as error:
            queue.put_nowait((index, error))

    tasks = [asyncio.create_task(forward(index)) for index in range(len(generations))]
    try:
        unfinished = len(generations)
        while unfinished:
            index, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                unfinished -= 1
            else:
                yield index, item
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def run(generations: Sequence[Generation]) -> None:
    """Runs them to their end; their answers are whole then. Raises ApiError."""
    async with aclosing(side_by_side(generations)) as deltas:
        async for _ in deltas:
            pass


async def render(
    generations: Sequence[Generation],
    make: Callable[_Arguments, _Made],
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Made:
    """What `make` makes of generations that have ended: in a thread where that has to write many log-probabilities."""
    scores = 0
    for generation in generations:
        params, answers = generation.ask.params, generation.answers
        scores += len(answers.prompt_logprobs or ()) * (1 + (params.prompt_logprobs or 0))
        scores += sum(len(answer.logprobs or ()) for answer in answers.all) * (1 + (params.logprobs or 0))
    if scores <= _FEW_LOGPROBS:
        return make(*args, **kwargs)
    current_request().answer_bytes = scores * _LOGPROB_BYTES
    return await in_thread(make, *args, **kwargs)


def usage(generations: Sequence[Generation], completion_tokens: int | None = None, reasoning_tokens: int = 0) -> Usage:
    """Token counts of a request. completion_tokens: where other than all that were generated."""
    prompt = sum(len(one.ask.prompt) for one in generations)
    completion = sum(one.tokens for one in generations) if completion_tokens is None else completion_tokens
    cached = sum(one.answers.cached_tokens for one in generations)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=reasoning_tokens),
    )
