"""Runs jobs through an engine in this process, and records what each step did."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from octavo_runtime.bench.jobs import Job
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.explain import explain
from octavo_runtime.config.options import BadOption
from octavo_runtime.engine.engine import Engine
from octavo_runtime.protocol.messages import Load
from octavo_runtime.protocol.sampling_params import SamplingParams


@dataclass(frozen=True)
class StepRecord:
    """One engine step, in seconds since the start. `rows`: requests that it computed; `load`: the engine's after it;
    `ended`: KV cache slots that each request which ended in this step had filled, and `load` no longer counts."""

    started: float
    stopped: float
    rows: int
    load: Load
    ended: list[int]

    @property
    def seconds(self) -> float:
        return self.stopped - self.started


@dataclass(frozen=True)
class Trace:
    """What became of a list of jobs, in seconds since the start. All but `steps` have one entry a job, in the jobs'
    order: when the engine was given it, and its tokens with the time at which each came."""

    steps: list[StepRecord]
    admitted: list[float]
    token_ids: list[list[int]]
    token_times: list[list[float]]

    @property
    def first_token(self) -> list[float]:
        return [times[0] for times in self.token_times]

    @property
    def finished(self) -> list[float]:
        return [times[-1] for times in self.token_times]

    @property
    def seconds(self) -> float:
        """From the start until the last job's end."""
        return max(self.finished)

    @property
    def output_tokens(self) -> int:
        return sum(len(tokens) for tokens in self.token_ids)


def configure(model: str, **settings: object) -> EngineConfig:
    """The configuration of an engine; BadOption where a setting is out of bounds."""
    try:
        return EngineConfig.model_validate({"model": model, **settings})
    except ValidationError as error:
        raise BadOption(explain(error)) from None


def open_engine(config: EngineConfig) -> Engine:
    """An engine that has run once, so that no measurement pays for first calls."""
    gc.collect()  # a GPU has room for one engine: the former one must be gone
    engine = Engine(config)
    drive(engine, [Job([1, 2, 3, 4], 4)] * 2)
    return engine


def drive(engine: Engine, jobs: Sequence[Job], *, batch_size: int | None = None) -> Trace:
    """Runs every job to its end, greedily and past end-of-sequence tokens. Jobs are in order of arrival.

    With `batch_size` the batches are static: the engine gets the next jobs, at most that many, only when all of the
    former have ended. Otherwise it gets each job when it arrives. BadOption where a job is longer than the engine
    serves."""
    longest = max(len(job.prompt) + job.output_len for job in jobs)
    if longest > engine.ready.max_model_len:
        raise BadOption(
            f"tokens: prompt and answer must have at most {engine.ready.max_model_len:,} together, got {longest:,}"
        )
    count = len(jobs)
    trace = Trace([], [], [[] for _ in jobs], [[] for _ in jobs])
    began = time.perf_counter()
    while len(trace.admitted) < count or engine.has_work:
        now = time.perf_counter() - began
        room = count if batch_size is None else 0 if engine.has_work else batch_size
        for index in range(len(trace.admitted), count)[:room]:
            if jobs[index].arrival > now:
                break
            params = SamplingParams(temperature=0.0, max_tokens=jobs[index].output_len, ignore_eos=True)
            engine.add_request(str(index), jobs[index].prompt, params)
            trace.admitted.append(now)
        if engine.has_work:
            _step(engine, jobs, trace, began)
        else:
            time.sleep(max(0.0, jobs[len(trace.admitted)].arrival - now))
    return trace


def _step(engine: Engine, jobs: Sequence[Job], trace: Trace, began: float) -> None:
    started = time.perf_counter() - began
    outputs = engine.step()
    stopped = time.perf_counter() - began
    ended = []
    for output in outputs:
        index = int(output.request_id)
        trace.token_ids[index] += output.token_ids
        trace.token_times[index] += [stopped] * len(output.token_ids)
        if output.finish_reason is not None:
            # The last token is drawn, but never computed.
            ended.append(len(jobs[index].prompt) + len(trace.token_ids[index]) - 1)
    load = engine.load
    trace.steps.append(StepRecord(started, stopped, load.running + len(ended), load, ended))
