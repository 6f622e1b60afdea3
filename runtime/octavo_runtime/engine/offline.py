"""A batch of prompts through an engine of this process, from the first step to the last."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from octavo_runtime.engine.engine import Engine
from octavo_runtime.protocol.interrupts import interrupts_deferred
from octavo_runtime.protocol.messages import Output
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams, StructuredOutput
from octavo_runtime.structured.grammars import Grammar
from octavo_runtime.text.answers import Answers, RequestOutput, request_exception
from octavo_runtime.text.tokenizer import Tokenizer, resolve_params


def answer_all(
    engine: Engine,
    tokenizer: Tokenizer,
    prompts: Mapping[str, list[int]],
    params: Sequence[SamplingParams],
    *,
    show: bool,
    priorities: Sequence[int] | None = None,
) -> list[RequestOutput]:
    """The answers to prompts, by request id, with params and perhaps a priority for each, in their order. show: a bar
    of their progress.

    InvalidParameter where one cannot be served; then nothing has run. What ends one of them later is the `error` of its
    own output."""
    resolved = [resolve_params(one, tokenizer) for one in params]
    grammars = _compile(engine, resolved)
    order = [0] * len(prompts) if priorities is None else priorities
    with _requests(engine, prompts):
        for (request_id, prompt), one, priority in zip(prompts.items(), resolved, order, strict=True):
            form = one.structured_outputs
            grammar = None if form is None else grammars[form]
            engine.add_request(request_id, prompt, one, priority=priority, grammar=grammar)
        running = {request_id: Answers(tokenizer, one) for request_id, one in zip(prompts, resolved, strict=True)}
        _drain(engine, running, show=show)
    return [
        running[request_id].request_output(request_id, None, one.truncate(prompt, engine.ready.max_model_len))
        for (request_id, prompt), one in zip(prompts.items(), resolved, strict=True)
    ]


def embed_all(
    engine: Engine, prompts: Mapping[str, list[int]], params: Sequence[PoolingParams], *, show: bool
) -> list[bytes]:
    """The embeddings of prompts, by request id, in their order: little-endian float32 each.
    InvalidParameter where one cannot be served; then nothing has run."""
    embeddings = dict.fromkeys(prompts, b"")
    with _requests(engine, prompts), Progress(*_columns("Embedding"), disable=not show) as bar:
        for (request_id, prompt), one in zip(prompts.items(), params, strict=True):
            engine.add_embedding(request_id, prompt, one)
        task = bar.add_task("", total=len(prompts))
        while engine.has_work:
            for output in _step(engine):
                if output.error is not None:
                    raise request_exception(output.error)
                assert output.embedding is not None
                embeddings[output.request_id] = output.embedding
                bar.advance(task)
    return list(embeddings.values())


def _compile(engine: Engine, params: Sequence[SamplingParams]) -> dict[StructuredOutput, Grammar]:
    forms = dict.fromkeys(one.structured_outputs for one in params)
    return {form: engine.compile(form) for form in forms if form is not None}


@contextmanager
def _requests(engine: Engine, request_ids: Mapping[str, object]) -> Iterator[None]:
    """Ends what is left of these requests after an error or Ctrl-C."""
    try:
        yield
    finally:
        for request_id in request_ids:
            engine.abort(request_id)


def _step(engine: Engine) -> list[Output]:
    """A step is finished once it has begun: the books are right after it alone, and ranks that compute together do each
    step together."""
    with interrupts_deferred():
        return engine.step()


def _drain(engine: Engine, running: Mapping[str, Answers], *, show: bool) -> None:
    speed = TextColumn("{task.fields[speed]:.0f} tok/s")
    with Progress(*_columns("Generating"), speed, disable=not show) as bar:
        task = bar.add_task("", total=len(running), speed=0.0)
        tokens = finished = 0
        while engine.has_work:
            for output in _step(engine):
                tokens += len(output.token_ids)
                answers = running[output.request_id]
                _collect(engine, output, answers)
                finished += answers.finished
            elapsed = bar.tasks[task].elapsed or 0.0
            bar.update(task, completed=finished, speed=tokens / elapsed if elapsed else 0.0)


def _collect(engine: Engine, output: Output, answers: Answers) -> None:
    if output.error is not None:
        answers.fail(output.error)
        return
    delta = answers.add(output)
    if delta is not None and delta.stopped:
        engine.abort(output.request_id, output.index)


def _columns(doing: str) -> tuple[ProgressColumn, ...]:
    return TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
