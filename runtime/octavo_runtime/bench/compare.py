"""`octavo bench compare`: Octavo beside transformers and llama.cpp, on the same requests, machine and run.

The servers are asked over HTTP on 127.0.0.1, all requests of a workload at once; each engine runs alone. A single
request is told by its decode speed, (time of all its tokens - time of one) / tokens between, so that the prompt's cost
is left out; the other workloads by all output tokens over the time until the last request is done."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version

import httpx
from rich.console import Console
from rich.table import Table

from octavo_runtime.bench import llama_cpp, server
from octavo_runtime.bench.jobs import Job
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.workloads import Workload, equal, mixed
from octavo_runtime.config.options import BadOption
from octavo_runtime.models.loading.files import ModelFiles, default_name, locate

SLOTS = 16  # of llama.cpp's server
_TOKENS_PER_SLOT = 1040  # the longest request of `mixed` has 1,024
_REQUEST_SECONDS = 600.0
_LIBGOMP_SPINCOUNT = "300000"  # its own default, which importing octavo_runtime lowers


@dataclass(frozen=True)
class Measured:
    """One engine's output tokens a second by workload; None where it cannot run it. `note`: what it is, or why it is
    missing."""

    engine: str
    note: str
    speeds: tuple[float | None, ...]


def run(model: str, build_llama_cpp: bool) -> list[Measured]:
    """Measures every engine that is here, prints one table, and returns its rows. Speeds are the better of two runs.

    BadOption where the model is no GGUF file, which is what the three engines all read."""
    files = locate(model)
    if files.gguf is None:
        raise BadOption(f"model: must be a GGUF file, which all the engines read, got {model}")
    if build_llama_cpp:
        llama_cpp.build()
    workloads = (equal("1 request, decode", 1, 64, 129), equal("16 requests, 64 in, 64 out", 16, 64, 64), mixed())
    rows = [_octavo(model, workloads), _transformers(files, workloads), _llama_cpp(files, workloads)]
    console = Console(highlight=False)
    console.print(_table(files, workloads, rows))
    for row in rows:
        console.print(f"{row.engine}: {row.note}", markup=False, soft_wrap=True)
    return rows


def _octavo(model: str, workloads: Sequence[Workload]) -> Measured:
    with server.serving(model, ["--no-enable-prefix-caching"]) as served:  # the second run is no cheaper than the first
        request = {"model": default_name(model), "temperature": 0, "ignore_eos": True}

        def body(job: Job) -> dict[str, object]:
            return {**request, "prompt": job.prompt, "max_tokens": job.output_len}

        return Measured(
            "octavo", f"its server, {served.dtype}", _speeds(served.base_url + "/completions", body, workloads)
        )


def _llama_cpp(files: ModelFiles, workloads: Sequence[Workload]) -> Measured:
    if not llama_cpp.server_binary().exists():
        note = "missing: octavo bench compare --build-llama-cpp builds it from pip's llama-cpp-python"
        return Measured("llama.cpp", note, (None,) * len(workloads))
    assert files.gguf is not None
    request = {"temperature": 0, "ignore_eos": True, "cache_prompt": False}

    def body(job: Job) -> dict[str, object]:
        return {**request, "prompt": job.prompt, "n_predict": job.output_len}

    with llama_cpp.serving(files.gguf, SLOTS, _TOKENS_PER_SLOT, len(os.sched_getaffinity(0))) as base_url:
        note = f"its server, {SLOTS} slots, of llama-cpp-python {llama_cpp.VERSION}"
        return Measured("llama.cpp", note, _speeds(base_url + "/completion", body, workloads))


def _transformers(files: ModelFiles, workloads: Sequence[Workload]) -> Measured:
    absent = [name for name in ("transformers", "accelerate") if importlib.util.find_spec(name) is None]
    if absent:
        return Measured("transformers", f"missing: pip install {' '.join(absent)}", (None,) * len(workloads))
    speeds: dict[str, float] = {}
    timed = [workload for workload in workloads if workload.equal_lengths]
    seconds = _generate(files, [jobs for workload in timed for jobs in _timed(workload)])
    for workload in timed:
        count = len(_timed(workload))
        speeds[workload.name] = _speed(workload, seconds[:count])
        seconds = seconds[count:]
    note = f"{version('transformers')}, generate, static batch, bfloat16"
    return Measured("transformers", note, tuple(speeds.get(workload.name) for workload in workloads))


def _speeds(
    url: str, body: Callable[[Job], dict[str, object]], workloads: Sequence[Workload]
) -> tuple[float | None, ...]:
    def send(jobs: Sequence[Job]) -> float:
        return asyncio.run(_send_all(url, [body(job) for job in jobs]))

    send([Job(job.prompt, 8) for job in workloads[1].jobs])  # warm-up
    return tuple(_speed(workload, [send(jobs) for jobs in _timed(workload)]) for workload in workloads)


def _timed(workload: Workload) -> list[Sequence[Job]]:
    """What is run for a workload's speed: all of it twice, and a single request's first token twice."""
    first_tokens = [replace(job, output_len=1) for job in workload.jobs]
    return [workload.jobs] * 2 + ([first_tokens] * 2 if len(workload.jobs) == 1 else [])


def _speed(workload: Workload, seconds: Sequence[float]) -> float:
    """Output tokens a second, from the times of `_timed`."""
    whole = min(seconds[:2])
    if len(workload.jobs) > 1:
        return workload.output_tokens / whole
    return (workload.output_tokens - 1) / (whole - min(seconds[2:]))


def _generate(files: ModelFiles, batches: Sequence[Sequence[Job]]) -> list[float]:
    """Seconds of each batch. BadOption, with the program's last line, where it fails."""
    told = [{"prompts": [job.prompt for job in jobs], "output_len": jobs[0].output_len} for jobs in batches]
    gguf = files.gguf.name if files.gguf else None
    result = subprocess.run(
        [sys.executable, "-m", "octavo_runtime.bench.transformers_batch"],
        input=json.dumps({"folder": str(files.folder), "gguf": gguf, "batches": told}),
        env={**os.environ, "GOMP_SPINCOUNT": _LIBGOMP_SPINCOUNT},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BadOption(f"transformers failed: {(result.stderr.strip().splitlines() or ['no word'])[-1]}")
    seconds: list[float] = json.loads(result.stdout.splitlines()[-1])
    return seconds


async def _send_all(url: str, bodies: Sequence[dict[str, object]]) -> float:
    """Seconds until every request, all sent at once, has its whole answer."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=_REQUEST_SECONDS, limits=limits, trust_env=False) as client:
        started = time.perf_counter()
        answers = await asyncio.gather(*(client.post(url, json=body) for body in bodies))
        seconds = time.perf_counter() - started
    for answer in answers:
        answer.raise_for_status()
    return seconds


def _table(files: ModelFiles, workloads: Sequence[Workload], rows: Sequence[Measured]) -> Table:
    title = f"{files.name}, output tokens/s, {datetime.now():%Y-%m-%d}, {machine('cpu')}"
    table = Table(title=title)
    table.add_column("engine")
    for workload in workloads:
        table.add_column(workload.name, justify="right")
    for row in rows:
        table.add_row(row.engine, *("-" if speed is None else f"{speed:.0f}" for speed in row.speeds))
    return table
