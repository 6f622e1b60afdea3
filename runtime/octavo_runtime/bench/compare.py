"""`octavo bench compare`: Octavo beside transformers and llama.cpp, on the same requests, machine and run.

The servers are asked over HTTP on 127.0.0.1, all requests of a workload at once. The engines take turns, so that what
else the machine does meets all of them: one computes while the others wait. A single request is told by its decode
speed, (time of all its tokens - time of one) / tokens between, so that the prompt's cost is left out; the other
workloads by all output tokens over the time until the last request is done."""

import asyncio
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from itertools import product

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
# What torch, and with it our loops, and oneDNN are to use of a CPU. llama.cpp is built for it.
_ENVIRONMENTS = {"native": {}, "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}

# Computes jobs that arrive together, and returns the seconds until the last one's end.
Send = Callable[[Sequence[Job]], float]


@dataclass(frozen=True)
class Engine:
    """One that is measured. note: what it is, or why it is missing. send: None where it is. takes_mixed: whether it
    computes jobs of different lengths."""

    name: str
    note: str
    send: Send | None = None
    takes_mixed: bool = True


@dataclass(frozen=True)
class Measured:
    """One engine's output tokens a second by workload; None where it cannot run it. note: see Engine."""

    engine: str
    note: str
    speeds: tuple[float | None, ...]


def run(
    model: str,
    *,
    isa: str = "native",
    rounds: int = 2,
    transformers: bool = True,
    build_llama_cpp: bool = False,
) -> list[Measured]:
    """Measures every engine that is here, prints one table, and returns its rows. Times are the best of the rounds.

    isa: the instructions that all may use: native, all of this machine's, or avx2 alone. BadOption where the model is
    no GGUF file, which is what the engines all read."""
    files = locate(model)
    if files.gguf is None:
        raise BadOption(f"model: must be a GGUF file, which all the engines read, got {model}")
    if isa == "avx2" and platform.machine() != "x86_64":
        raise BadOption(f"isa: must be native on {platform.machine()}, got avx2")
    if build_llama_cpp:
        llama_cpp.build(isa)
    load = os.getloadavg()[0]
    workloads = (equal("1 request, decode", 1, 64, 129), equal("16 requests, 64 in, 64 out", 16, 64, 64), mixed())
    environment = {**os.environ, **_ENVIRONMENTS[isa]}
    opened: list[AbstractContextManager[Engine]] = [_octavo(model, environment), _llama_cpp(files, isa)]
    if transformers:
        opened.insert(1, _transformers(files, environment))
    with ExitStack() as stack:
        rows = _in_turns([stack.enter_context(each) for each in opened], workloads, rounds)
    console = Console(highlight=False)
    console.print(_table(files, isa, rounds, load, workloads, rows))
    for row in rows:
        console.print(f"{row.engine}: {row.note}", markup=False, soft_wrap=True)
    return rows


def _in_turns(engines: Sequence[Engine], workloads: Sequence[Workload], rounds: int) -> list[Measured]:
    """Each round runs a workload on one engine after the other, then the next workload."""
    seconds: dict[tuple[str, str], list[list[float]]] = {}
    for engine in engines:
        if engine.send is not None:  # warm-up
            engine.send([Job(job.prompt, 8) for job in workloads[1].jobs])
    for _, workload, engine in product(range(rounds), workloads, engines):
        if engine.send is not None and (engine.takes_mixed or workload.equal_lengths):
            took = [engine.send(jobs) for jobs in _timed(workload)]
            seconds.setdefault((engine.name, workload.name), []).append(took)

    def speed(engine: Engine, workload: Workload) -> float | None:
        took = seconds.get((engine.name, workload.name))
        return None if took is None else _speed(workload, took)

    return [
        Measured(engine.name, engine.note, tuple(speed(engine, workload) for workload in workloads))
        for engine in engines
    ]


@contextmanager
def _octavo(model: str, environment: Mapping[str, str]) -> Iterator[Engine]:
    request = {"model": default_name(model), "temperature": 0, "ignore_eos": True}

    def body(job: Job) -> dict[str, object]:
        return {**request, "prompt": job.prompt, "max_tokens": job.output_len}

    # Without the prefix cache a round is no cheaper than the one before.
    with server.serving(model, ["--no-enable-prefix-caching"], environment=environment) as served:
        yield Engine("octavo", f"its server, {served.dtype}", _sender(served.base_url + "/completions", body))


@contextmanager
def _llama_cpp(files: ModelFiles, isa: str) -> Iterator[Engine]:
    binary = llama_cpp.server_binary(isa)
    if not binary.exists():
        option = "" if isa == "native" else f" --isa {isa}"
        how = f"octavo bench compare{option} --build-llama-cpp builds it from pip's llama-cpp-python"
        yield Engine("llama.cpp", f"missing: {how}")
        return
    assert files.gguf is not None
    request = {"temperature": 0, "ignore_eos": True, "cache_prompt": False}

    def body(job: Job) -> dict[str, object]:
        return {**request, "prompt": job.prompt, "n_predict": job.output_len}

    with llama_cpp.serving(binary, files.gguf, SLOTS, _TOKENS_PER_SLOT, len(os.sched_getaffinity(0))) as base_url:
        note = f"its server, {SLOTS} slots, of llama-cpp-python {llama_cpp.VERSION}"
        yield Engine("llama.cpp", note, _sender(base_url + "/completion", body))


@contextmanager
def _transformers(files: ModelFiles, environment: Mapping[str, str]) -> Iterator[Engine]:
    absent = [name for name in ("transformers", "accelerate") if importlib.util.find_spec(name) is None]
    if absent:
        yield Engine("transformers", f"missing: pip install {' '.join(absent)}")
        return
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "octavo_runtime.bench.transformers_batch"],
            env={**environment, "GOMP_SPINCOUNT": _LIBGOMP_SPINCOUNT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def answer(told: Mapping[str, object]) -> str:
            with suppress(BrokenPipeError):  # it has ended, and says why where nothing is read
                print(json.dumps(told), file=stdin, flush=True)
            line = stdout.readline()
            if not line:
                errors.seek(0)
                raise BadOption(f"transformers failed: {(errors.read().strip().splitlines() or ['no word'])[-1]}")
            return line

        def send(jobs: Sequence[Job]) -> float:
            return float(answer({"prompts": [job.prompt for job in jobs], "output_len": jobs[0].output_len}))

        try:
            answer({"folder": str(files.folder), "gguf": files.gguf.name if files.gguf else None})
            note = f"{version('transformers')}, generate, static batch, bfloat16"
            yield Engine("transformers", note, send, takes_mixed=False)
        finally:
            process.terminate()


def _sender(url: str, body: Callable[[Job], dict[str, object]]) -> Send:
    return lambda jobs: asyncio.run(_send_all(url, [body(job) for job in jobs]))


def _timed(workload: Workload) -> list[Sequence[Job]]:
    """What is run for a workload's speed: all of it, and a single request's first token."""
    if len(workload.jobs) > 1:
        return [workload.jobs]
    return [workload.jobs, [replace(job, output_len=1) for job in workload.jobs]]


def _speed(workload: Workload, rounds: Sequence[Sequence[float]]) -> float:
    """Output tokens a second, from each round's times of `_timed`."""
    best: list[float] = [min(times) for times in zip(*rounds, strict=True)]
    if len(workload.jobs) > 1:
        return workload.output_tokens / best[0]
    return (workload.output_tokens - 1) / (best[0] - best[1])


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


def _table(
    files: ModelFiles, isa: str, rounds: int, load: float, workloads: Sequence[Workload], rows: Sequence[Measured]
) -> Table:
    """load: of the machine before it began, of one minute."""
    where = f"{machine('cpu')}{'' if isa == 'native' else f', {isa} alone'}, load {load:.1f} before"
    title = f"{files.name}, output tokens/s, {datetime.now():%Y-%m-%d}, {where}, best of {rounds}"
    table = Table(title=title)
    table.add_column("engine")
    for workload in workloads:
        table.add_column(workload.name, justify="right")
    for row in rows:
        table.add_row(row.engine, *("-" if speed is None else f"{speed:.0f}" for speed in row.speeds))
    return table
