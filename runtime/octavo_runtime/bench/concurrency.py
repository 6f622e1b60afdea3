"""`octavo bench concurrency`: the server under more and more clients, beside transformers' generate one by one."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from openai import AsyncOpenAI, BadRequestError
from rich.table import Table

from octavo_runtime.bench.figure import BASELINE, INK, OCTAVO, figure, quiet
from octavo_runtime.bench.jobs import percentile, random_prompt
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.report import Report
from octavo_runtime.bench.server import serving
from octavo_runtime.bench.transformers_generate import one_by_one
from octavo_runtime.config.options import BadOption
from octavo_runtime.models.loading.files import default_name, locate

_PROMPT_TOKENS = 64
_MOST_CLIENTS = 256
_FEWEST_REQUESTS = 8  # at each level, so that its percentiles mean something
_TRANSFORMERS_REQUESTS = 4
_VOCABULARY = 256  # ids that every model has


@dataclass(frozen=True)
class Level:
    """What so many clients got at once; latencies in seconds, from a request to its whole answer."""

    clients: int
    requests: int
    output_tokens_per_second: float
    latency_p50: float
    latency_p99: float


def parse_clients(text: str) -> list[int]:
    """Numbers of clients from text such as 1,8,16; BadOption where one is not from 1 to 256."""
    levels = []
    for word in text.split(","):
        if not word.strip().isdecimal() or not 1 <= int(word) <= _MOST_CLIENTS:
            raise BadOption(f"clients: must be whole numbers from 1 to {_MOST_CLIENTS}, got {word.strip()!r}")
        levels.append(int(word))
    return sorted(set(levels))


def run(model: str, dtype: str, clients: str, requests: int, tokens: int, transformers: bool, seed: int) -> Report:
    """Each of so many clients sends `requests` requests, the next when it has the answer; `tokens` tokens each."""
    levels = parse_clients(clients)
    files = locate(model)
    generator = np.random.default_rng(seed)
    with serving(model, ["--dtype", dtype]) as server:
        try:
            measured = asyncio.run(_measure(server.base_url, default_name(model), levels, requests, tokens, generator))
        except BadRequestError as error:
            raise BadOption(f"the server refuses the requests: {error.message}") from None
    alone, missing = None, ""
    if transformers:
        prompts = [random_prompt(generator, _PROMPT_TOKENS, _VOCABULARY) for _ in range(_TRANSFORMERS_REQUESTS)]
        try:
            alone = _level(one_by_one(files, server.dtype, prompts, tokens), 1, tokens)
        except ImportError as error:
            missing = f"\ntransformers is not measured: pip install {error.name or 'transformers'}"
    return Report(
        name="concurrency",
        finding=_finding(measured, alone),
        machine=machine(server.device),
        setting=f"{model} {server.dtype}",
        table=_table(measured, alone, missing),
        draw=lambda context: _draw(measured, alone, tokens, context),
        figures={
            "prompt_tokens": _PROMPT_TOKENS,
            "output_tokens": tokens,
            "levels": [asdict(level) for level in measured],
            "transformers": alone and asdict(alone),
        },
    )


async def _measure(
    base_url: str, name: str, levels: Sequence[int], requests: int, tokens: int, generator: np.random.Generator
) -> list[Level]:
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=600) as client:

        async def ask() -> float:
            started = time.perf_counter()
            await client.completions.create(
                model=name,
                prompt=random_prompt(generator, _PROMPT_TOKENS, _VOCABULARY),
                max_tokens=tokens,
                temperature=0,
                extra_body={"ignore_eos": True},
            )
            return time.perf_counter() - started

        async def send(turns: Iterator[int], latencies: list[float]) -> None:
            for _ in turns:
                latencies.append(await ask())

        await asyncio.gather(*(ask() for _ in range(2)))
        measured = []
        for clients in levels:
            turns = iter(range(max(clients * requests, _FEWEST_REQUESTS)))
            latencies: list[float] = []
            started = time.perf_counter()
            await asyncio.gather(*(send(turns, latencies) for _ in range(clients)))
            measured.append(_level(latencies, clients, tokens, time.perf_counter() - started))
        return measured


def _level(latencies: list[float], clients: int, tokens: int, seconds: float | None = None) -> Level:
    """`seconds`: the time of all requests together; their sum where they ran one by one."""
    return Level(
        clients=clients,
        requests=len(latencies),
        output_tokens_per_second=len(latencies) * tokens / (seconds or sum(latencies)),
        latency_p50=percentile(latencies, 50),
        latency_p99=percentile(latencies, 99),
    )


def _finding(measured: Sequence[Level], alone: Level | None) -> str:
    first, last = measured[0], measured[-1]
    if alone is not None:
        ratio = last.output_tokens_per_second / alone.output_tokens_per_second
        return f"{last.clients} clients at once get {ratio:.1f}x the throughput of transformers one by one"
    ratio = last.output_tokens_per_second / first.output_tokens_per_second
    return f"{last.clients} clients at once get {ratio:.1f}x the throughput of {first.clients}"


def _table(measured: Sequence[Level], alone: Level | None, missing: str) -> Table:
    table = Table(caption=f"output tokens a second; seconds until a whole answer{missing}")
    headings = ("engine", "clients", "tok/s", "p50, s", "p99, s", "p50 ratio")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "engine" else "right", no_wrap=True)
    rows = [("octavo", level) for level in measured]
    if alone is not None:
        rows.append(("transformers one by one", alone))
    for name, level in rows:
        table.add_row(
            name,
            str(level.clients),
            f"{level.output_tokens_per_second:.0f}",
            f"{level.latency_p50:.2f}",
            f"{level.latency_p99:.2f}",
            f"{level.latency_p50 / measured[0].latency_p50:.1f}",
        )
    return table


def _draw(measured: Sequence[Level], alone: Level | None, tokens: int, context: str) -> Figure:
    """Throughput on the left, latency on the right, over the number of clients."""
    picture = figure(
        _finding(measured, alone),
        f"octavo serve over HTTP; each client sends its next request ({_PROMPT_TOKENS} tokens in, {tokens} out) "
        "when it has the answer",
        context,
    )
    left, right = picture.subplots(1, 2)
    clients = [level.clients for level in measured]
    throughput = [level.output_tokens_per_second for level in measured]
    left.plot(clients, throughput, "o-", color=OCTAVO, linewidth=1.8)
    _write_values(left, clients, throughput, "{:.0f}")
    if alone is not None:
        speed = alone.output_tokens_per_second
        _draw_alone(left, clients, speed, f"transformers one by one: {speed:.0f}")
    _finish(left, clients, "Throughput", "output tokens per second")
    half, most = [level.latency_p50 for level in measured], [level.latency_p99 for level in measured]
    right.fill_between(clients, half, most, color=OCTAVO, alpha=0.2, linewidth=0)
    right.plot(clients, half, "o-", color=OCTAVO, linewidth=1.8)
    _write_values(right, clients, half, "{:.1f}")
    if alone is not None:
        _draw_alone(right, clients, alone.latency_p50, f"transformers, one client: {alone.latency_p50:.1f}")
    _finish(right, clients, "Latency: median; shaded up to p99", "seconds until the whole answer")
    return picture


def _write_values(axes: Axes, clients: Sequence[int], values: Sequence[float], form: str) -> None:
    for x, y in zip(clients, values, strict=True):
        text = form.format(y)
        axes.annotate(text, (x, y), xytext=(0, 8), textcoords="offset points", ha="center", color=OCTAVO)


def _draw_alone(axes: Axes, clients: Sequence[int], value: float, text: str) -> None:
    axes.axhline(value, color=BASELINE, linestyle="--", linewidth=1.5)
    # At the left, above the line: there the curves are still below it or far above.
    axes.annotate(text, (clients[0], value), xytext=(0, 5), textcoords="offset points", ha="left", color=BASELINE)


def _finish(axes: Axes, clients: Sequence[int], title: str, y: str) -> None:
    quiet(axes, x="clients at once", y=y)
    axes.set_title(title, loc="left", fontsize=11.5, color=INK)
    axes.set_xticks(clients)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
