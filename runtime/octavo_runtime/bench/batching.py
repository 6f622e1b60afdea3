"""`octavo bench batching`: requests that join and leave the batch at every step, beside batches that start and end as
one (Yu et al. 2022, figure 4)."""

from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from octavo_runtime.bench.drive import Trace, configure, drive, open_engine
from octavo_runtime.bench.figure import BASELINE, FAINT, INK, OCTAVO, figure, quiet
from octavo_runtime.bench.jobs import Job, lognormal_lengths, percentile, poisson_arrivals, random_prompt
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.report import Report

_PROMPT_TOKENS = 32


@dataclass(frozen=True)
class Outcome:
    """One policy's run. `utilisation`: share of the rows that computed, over the whole time; latencies are from a
    request's arrival to its last token; `busy`: (start of a step, rows that it computed)."""

    seconds: float
    output_tokens: int
    output_tokens_per_second: float
    utilisation: float
    latency_p50: float
    latency_p99: float
    busy: list[tuple[float, int]]


def run(model: str, dtype: str, requests: int, rows: int, tokens: int, rate: float, seed: int) -> Report:
    """The same requests, with answers of `tokens` in the middle and a long tail, through `rows` rows: in static batches
    and continuously. They come all at once, or `rate` a second."""
    generator = np.random.default_rng(seed)
    engine = open_engine(configure(model, dtype=dtype, max_num_seqs=rows, enable_prefix_caching=False))
    room = engine.ready.max_model_len - _PROMPT_TOKENS
    jobs = [
        Job(random_prompt(generator, _PROMPT_TOKENS, engine.ready.vocab_size), length, arrival)
        for length, arrival in zip(
            lognormal_lengths(generator, requests, tokens, min(room, 4 * tokens)),
            poisson_arrivals(generator, requests, rate),
            strict=True,
        )
    ]
    static = outcome(jobs, drive(engine, jobs, batch_size=rows), rows)
    continuous = outcome(jobs, drive(engine, jobs), rows)
    return Report(
        name="batching",
        finding=_finding(static, continuous, rate),
        machine=machine(engine.ready.device),
        setting=f"{model} {engine.ready.dtype}",
        table=_table(static, continuous),
        draw=lambda context: _draw(static, continuous, jobs, rows, rate, context),
        figures={
            "rows": rows,
            "arrivals_per_second": rate,
            "prompt_tokens": _PROMPT_TOKENS,
            "output_lengths": [job.output_len for job in jobs],
            "static": asdict(static),
            "continuous": asdict(continuous),
        },
    )


def outcome(jobs: list[Job], trace: Trace, rows: int) -> Outcome:
    """The figures of one run of `jobs` on an engine of `rows` rows."""
    latencies = [finished - job.arrival for job, finished in zip(jobs, trace.finished, strict=True)]
    busy_seconds = sum(step.rows * step.seconds for step in trace.steps)
    return Outcome(
        seconds=trace.seconds,
        output_tokens=trace.output_tokens,
        output_tokens_per_second=trace.output_tokens / trace.seconds,
        utilisation=busy_seconds / (rows * trace.seconds),
        latency_p50=percentile(latencies, 50),
        latency_p99=percentile(latencies, 99),
        busy=[(step.started, step.rows) for step in trace.steps],
    )


def _finding(static: Outcome, continuous: Outcome, rate: float) -> str:
    if rate:
        ratio = static.latency_p50 / continuous.latency_p50
        return f"Continuous batching answers {ratio:.1f}x sooner than static batching"
    ratio = continuous.output_tokens_per_second / static.output_tokens_per_second
    return f"Continuous batching gives {ratio:.1f}x the throughput of static batching"


def _table(static: Outcome, continuous: Outcome) -> Table:
    table = Table()
    for heading in ("batches", "all done, s", "output tok/s", "rows busy", "latency p50, s", "latency p99, s"):
        table.add_column(heading, justify="left" if heading == "batches" else "right")
    for name, one in (("static", static), ("continuous", continuous)):
        table.add_row(
            name,
            f"{one.seconds:.1f}",
            f"{one.output_tokens_per_second:.0f}",
            f"{one.utilisation:.0%}",
            f"{one.latency_p50:.2f}",
            f"{one.latency_p99:.2f}",
        )
    return table


def _draw(static: Outcome, continuous: Outcome, jobs: list[Job], rows: int, rate: float, context: str) -> Figure:
    """The busy rows over time, one panel a policy, on one time axis."""
    arrivals = f"{rate:g} a second" if rate else "all at once"
    picture = figure(
        _finding(static, continuous, rate),
        f"{len(jobs)} requests, {arrivals}, with answers of {min(job.output_len for job in jobs)} to "
        f"{max(job.output_len for job in jobs)} tokens; the same engine with {rows} rows (light grey: idle)",
        context,
    )
    panels = picture.subplots(2, 1, sharex=True)
    for axes, name, one, colour in (
        (panels[0], "Static: the next batch waits for the longest answer", static, BASELINE),
        (panels[1], "Continuous: a free row takes the next request at once", continuous, OCTAVO),
    ):
        times = [moment for moment, _ in one.busy] + [one.seconds]
        axes.fill_between([0, one.seconds], 0, rows, color=FAINT, linewidth=0)
        axes.stairs([busy for _, busy in one.busy], times, fill=True, color=colour)
        quiet(axes, y="busy rows")
        axes.set_ylim(0, rows)
        axes.set_xlim(0, max(static.seconds, continuous.seconds))
        axes.set_title(name, loc="left", fontsize=11.5, color=INK)
        axes.set_title(
            f"{one.utilisation:.0%} busy, all done in {one.seconds:.1f} s, half done in {one.latency_p50:.1f} s",
            loc="right",
            fontsize=10,
            color=INK,
        )
    panels[1].set_xlabel("seconds", fontsize=10.5, color=INK)
    picture.subplots_adjust(hspace=0.28)
    return picture
