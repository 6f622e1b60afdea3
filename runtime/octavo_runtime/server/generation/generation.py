"""From a checked request to the answers as they grow: to one prompt, or to several at once."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import msgspec

from octavo_runtime.engine_process.client import EngineFailure
from octavo_runtime.protocol.messages import RequestError
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.generation.progress import Progress
from octavo_runtime.server.generation.request import GenerationRequest
from octavo_runtime.server.generation.threads import in_thread
from octavo_runtime.server.generation.usage import CompletionTokensDetails, PromptTokensDetails, Usage
from octavo_runtime.server.http.errors import (
    ApiError,
    deadline_exceeded,
    engine_failed,
    invalid,
    overloaded,
    unavailable,
)
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.observe.prompt_log import log_prompt
from octavo_runtime.server.state import ServedModel, ServerState
from octavo_runtime.text.answers import Answers, Delta
from octavo_runtime.text.detokenizer import Preamble
from octavo_runtime.text.tokenizer import resolve_params

_RETRY_SECONDS = 1  # a queue moves on quickly
_MOST_PROMPT_LOGPROBS = 2**20  # of one request
_LOGPROB_BYTES = 70  # in an answer, about
_FEW_LOGPROBS = 1024  # are written in a millisecond or two

_Arguments = ParamSpec("_Arguments")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Ask:
    """One prompt and what is asked of it. form_field: the request's own name for its structured output, or for the line
    of it, counted from 1, where an error is. preamble: see Answers."""

    prompt: list[int]
    params: SamplingParams
    priority: int
    cache_salt: str
    form_field: Callable[[int | None], str]
    preamble: Callable[[], Preamble] | None = None


def make_ask(model: ServedModel, body: GenerationRequest, prompt: list[int], params: SamplingParams, field: str) -> Ask:
    """What to ask of the engine for a prompt that request field `field` holds. Raises ApiError where it does not
    fit the model."""
    kept, form = params.truncate(prompt), body.answer_form()
    form_field = "structured_outputs" if form is None else form.field
    check_prompt(model, kept, field)
    return Ask(
        kept,
        resolve_params(_within_room(model, kept, params, body, field), model.tokenizer),
        body.priority,
        body.cache_salt or "",
        lambda _: form_field,
    )


def check_prompt(model: ServedModel, prompt: Sequence[int], field: str) -> None:
    """Raises ApiError where a prompt (from request field `field`) does not fit the model."""
    limit = model.max_model_len
    if len(prompt) >= limit:
        raise invalid(
            f"{field}: must have at most {limit - 1} tokens, to leave room for an answer within the limit of {limit}, "
            f"got {len(prompt)}",
            field,
            "context_length_exceeded",
        )
    check_tokens(model, prompt, field)


def _within_room(
    model: ServedModel, prompt: Sequence[int], params: SamplingParams, body: GenerationRequest, field: str
) -> SamplingParams:
    """The parameters with max_tokens cut to what the prompt leaves, as clients send one number whatever the prompt.
    Raises ApiError where the server is strict, or more tokens are a must."""
    limit, wanted, record = model.max_model_len, body.token_limit(), current_request()
    room = limit - len(prompt)
    if wanted is None or wanted <= room:
        return params
    if record.strict or params.min_tokens > room:
        raise invalid(
            f"{field}: {len(prompt)} prompt tokens and max_tokens {wanted} make {len(prompt) + wanted}, the limit of "
            f"both together is {limit}",
            field,
            "context_length_exceeded",
        )
    record.ignore(body.token_limit_field)
    return msgspec.structs.replace(params, max_tokens=room)


def check_prompt_logprobs(asks: Sequence[Ask], copies: int, field: str) -> None:
    """Raises ApiError where the prompts' log-probabilities, that many times over, make too large an answer. field: the
    one that asks for them."""
    top, tokens = asks[0].params.prompt_logprobs, copies * sum(len(ask.prompt) for ask in asks)
    if top is not None and (number := tokens * (top + 1)) > _MOST_PROMPT_LOGPROBS:
        raise invalid(
            f"{field}: with {tokens} prompt tokens there must be at most {_MOST_PROMPT_LOGPROBS} log-probabilities of "
            f"them and of those in their places, got {number}",
            field,
        )


def check_text(model: ServedModel, characters: int, field: str) -> None:
    """Raises ApiError where so many characters cannot be few enough tokens: tokenising megabytes takes seconds."""
    fewest = characters // model.tokenizer.longest_token
    if fewest >= model.max_model_len:
        raise invalid(
            f"{field}: must have at most {model.max_model_len - 1} tokens, got {characters} characters, which are at "
            f"least {fewest}",
            field,
            "context_length_exceeded",
        )


def check_tokens(model: ServedModel, prompt: Sequence[int], field: str) -> None:
    """Raises ApiError where a prompt has no token, or one that the model does not know."""
    if not prompt:
        raise invalid(f"{field}: must have at least one token, got none", field)
    worst = max(prompt) if min(prompt) >= 0 else min(prompt)
    if not 0 <= worst < model.vocab_size:
        raise invalid(f"{field}: token ids must be from 0 to {model.vocab_size - 1}, got {worst!s:.100}", field)


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


def refusal(error: RequestError, form_field: Callable[[int | None], str]) -> ApiError:
    """Why the engine gave no answer. form_field: see Ask."""
    match error.kind:
        case "invalid":
            field, message = error.field, error.message
            if field is not None and field.startswith("structured_outputs"):
                line = re.search(r"at (\d+)\(\d+\): (?:failed to compile JSON schema: )?", message)
                told = form_field(None if line is None else int(line[1]))
                if line is not None and told != form_field(None):
                    message = message.replace(line[0], "")
                field, message = told, f"{told} {message.removeprefix(f'{field} ')}"
            return invalid(message, field)
        case "overloaded":
            return overloaded(error.message, retry_after=_RETRY_SECONDS)
        case "queue_timeout":
            return unavailable(error.message, retry_after=_RETRY_SECONDS, code="queue_timeout")
        case "deadline":
            return deadline_exceeded(error.message)
