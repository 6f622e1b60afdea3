"""From checked token ids to text as it comes: one answer, or several at once."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from octavo_runtime.detokenizer import Detokenizer
from octavo_runtime.engine_client import EngineFailure
from octavo_runtime.sampling_params import SamplingParams
from octavo_runtime.server.errors import engine_failed, invalid
from octavo_runtime.server.responses import FinishReason, Usage
from octavo_runtime.server.state import ServedModel, ServerState


@dataclass(frozen=True)
class Delta:
    """What one or more new tokens brought. `tokens`: how many, a final stop token included."""

    text: str
    tokens: int
    finish_reason: FinishReason | None


def check_prompt(model: ServedModel, prompt: Sequence[int], max_tokens: int | None, field: str) -> None:
    """Raises ApiError where a prompt (from request field `field`) does not fit the model."""
    limit = model.max_model_len
    if not prompt:
        raise invalid(f"{field}: must have at least one token, got none", field)
    if len(prompt) >= limit:
        raise invalid(
            f"{field}: must have at most {limit - 1} tokens, to leave room for an answer within the limit of {limit}, "
            f"got {len(prompt)}",
            field,
            "context_length_exceeded",
        )
    if max_tokens is not None and len(prompt) + max_tokens > limit:
        raise invalid(
            f"{field}: {len(prompt)} prompt tokens and max_tokens {max_tokens} make {len(prompt) + max_tokens}, "
            f"the limit of both together is {limit}",
            field,
            "context_length_exceeded",
        )
    worst = max(prompt) if min(prompt) >= 0 else min(prompt)
    if not 0 <= worst < model.vocab_size:
        raise invalid(f"{field}: token ids must be from 0 to {model.vocab_size - 1}, got {worst}", field)


async def answer(
    state: ServerState, model: ServedModel, prompt: list[int], params: SamplingParams
) -> AsyncGenerator[Delta, None]:
    """Generates one answer. Closing the generator aborts it in the engine. Raises ApiError when the engine fails."""
    start = last = time.perf_counter()
    detokenizer = Detokenizer(model.tokenizer, stop=params.stop)
    outcome = "aborted"
    state.metrics.started(len(prompt))
    try:
        async with aclosing(state.engine.generate(uuid.uuid4().hex, prompt, params)) as outputs:
            async for output in outputs:
                now = time.perf_counter()
                if output.token_ids:
                    record = state.metrics.first_tokens if last == start else state.metrics.more_tokens
                    record(len(output.token_ids), now - last)
                    last = now
                if output.finish_reason in ("error", "abort"):
                    raise EngineFailure(output.error or "the engine ended the request")
                text = detokenizer.add(
                    output.token_ids,
                    finished=output.finish_reason is not None,
                    stopped_by_token=output.finish_reason == "stop",
                )
                reason: FinishReason | None = "stop" if detokenizer.stopped or output.finish_reason == "stop" else None
                if output.finish_reason == "length":
                    reason = reason or "length"
                if reason is not None:
                    outcome = reason
                if text or reason or output.token_ids:
                    yield Delta(text, len(output.token_ids), reason)
                if reason is not None:
                    break
    except EngineFailure as error:
        outcome = "error"
        raise engine_failed(str(error)) from None
    finally:
        if outcome in ("stop", "length"):
            state.metrics.answered(outcome, time.perf_counter() - start)
        else:
            state.metrics.ended(outcome)


async def answers(
    state: ServerState, model: ServedModel, prompts: Sequence[list[int]], params: SamplingParams
) -> AsyncGenerator[tuple[int, Delta], None]:
    """Answers to several prompts, generated side by side: (index of the prompt, delta) as they come."""
    if len(prompts) == 1:
        async with aclosing(answer(state, model, prompts[0], params)) as deltas:
            async for delta in deltas:
                yield 0, delta
        return
    queue: asyncio.Queue[tuple[int, Delta | BaseException]] = asyncio.Queue()

    async def forward(index: int) -> None:
        try:
            async with aclosing(answer(state, model, prompts[index], params)) as deltas:
                async for delta in deltas:
                    queue.put_nowait((index, delta))
        except Exception as error:
            queue.put_nowait((index, error))

    tasks = [asyncio.create_task(forward(index)) for index in range(len(prompts))]
    try:
        unfinished = len(prompts)
        while unfinished:
            index, item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            unfinished -= item.finish_reason is not None
            yield index, item
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Collected:
    """One whole answer."""

    text: str = ""
    tokens: int = 0
    finish_reason: FinishReason = "stop"


async def collect(
    state: ServerState, model: ServedModel, prompts: Sequence[list[int]], params: SamplingParams
) -> list[Collected]:
    """Whole answers, in the order of their prompts."""
    collected = [Collected() for _ in prompts]
    async with aclosing(answers(state, model, prompts, params)) as deltas:
        async for index, delta in deltas:
            one = collected[index]
            one.text += delta.text
            one.tokens += delta.tokens
            one.finish_reason = delta.finish_reason or one.finish_reason
    return collected


def usage(prompts: Sequence[Sequence[int]], completion_tokens: int) -> Usage:
    """Token counts of a request."""
    prompt_tokens = sum(map(len, prompts))
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )
