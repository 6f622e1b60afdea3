"""`octavo bench offline`: all requests at once through an engine in this process, until the last one ends."""

import time
from collections.abc import Sequence
from itertools import pairwise

from octavo_runtime.bench.drive import configure
from octavo_runtime.bench.jobs import Job
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.model_shape import served
from octavo_runtime.bench.offline_requests import check_lengths, equal_lengths, within, workload
from octavo_runtime.bench.profile import profiled
from octavo_runtime.bench.rows import Peer, Row, find_peer, publish
from octavo_runtime.engine.engine import Engine
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.worker.heap import keep_all

SETTLE_SEED = 9


def run(
    model: str,
    weights: str,
    settings: dict[str, object],
    workloads: str,
    peers: str,
    saved: str | None,
    profile: str | None,
    *,
    as_json: bool,
) -> list[Row]:
    """Measures and prints each of the comma-separated `workloads`."""
    chosen = {name.strip(): workload(name.strip()) for name in workloads.split(",")}
    with served(model, weights) as (opened, needed):
        config = configure(opened, **settings, **needed)
        engine = Engine(config)
        jobs = {name: fitted(engine, listed) for name, listed in chosen.items()}
        peer = find_peer(peers, machine(engine.ready.device))
        settle(engine)
        rows = []
        for name, listed in jobs.items():
            with profiled(profile, name):
                rows.append(_row(name, listed, seconds(engine, listed)))
    tell("offline", engine, model, rows, peer, saved, as_json=as_json)
    return rows


def fitted(engine: Engine, jobs: Sequence[Job]) -> list[Job]:
    """The jobs in the engine's vocabulary; BadOption where one is longer than it serves."""
    check_lengths(jobs, engine.ready.max_model_len)
    return list(map(within(engine.ready.vocab_size), jobs))


def settle(engine: Engine) -> None:
    """Runs what every measurement would else pay for once."""
    while engine.prepare_some():
        pass
    seconds(engine, fitted(engine, equal_lengths(8, 64, 16, SETTLE_SEED)))
    # Long prompts have kernels of their own.
    longest = min(2048, engine.ready.max_model_len - 2)
    for turn in range(2):
        seconds(engine, fitted(engine, equal_lengths(1, longest, 2, SETTLE_SEED + turn)))
    keep_all()  # as the engine's process does


def seconds(engine: Engine, jobs: Sequence[Job]) -> float:
    """How long it takes from the first request's arrival to the last one's end: greedy, past end-of-sequence."""
    return sum(step_seconds(engine, jobs))


def step_seconds(engine: Engine, jobs: Sequence[Job]) -> list[float]:
    """The same for each of the engine's steps; the first one includes the requests' arrival."""
    ends = [time.perf_counter()]
    for index, job in enumerate(jobs):
        params = SamplingParams(temperature=0.0, max_tokens=job.output_len, ignore_eos=True)
        engine.add_request(str(index), job.prompt, params)
    while engine.has_work:
        engine.step()
        ends.append(time.perf_counter())
    return [end - begin for begin, end in pairwise(ends)]


def tell(
    bench: str, engine: Engine, model: str, rows: list[Row], peer: Peer | None, saved: str | None, *, as_json: bool
) -> None:
    """Prints the rows and saves them where that is asked for."""
    ready = engine.ready
    device = machine(ready.device)
    setting = f"{model}, {ready.dtype}, KV cache of {ready.num_whole_blocks * ready.block_size:,} tokens"
    publish(bench, device, setting, rows, peer, saved, as_json=as_json)


def _row(name: str, jobs: Sequence[Job], took: float) -> Row:
    tokens_in, tokens_out = sum(len(job.prompt) for job in jobs), sum(job.output_len for job in jobs)
    speeds = {"req_s": len(jobs) / took, "out_tok_s": tokens_out / took, "tok_s": (tokens_in + tokens_out) / took}
    return Row(name, {"seconds": took, **speeds})
