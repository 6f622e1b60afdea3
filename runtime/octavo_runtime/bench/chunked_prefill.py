"""`octavo bench chunked-prefill`: what running answers notice of a long prompt, by the token budget of a step (Agrawal
et al. 2024, section 4)."""

import time
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from octavo_runtime.bench.drive import configure, open_engine
from octavo_runtime.bench.figure import BASELINE, INK, OCTAVO, figure, quiet
from octavo_runtime.bench.jobs import percentile, random_prompt
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.report import Report
from octavo_runtime.config.options import BadOption
from octavo_runtime.engine.engine import Engine
from octavo_runtime.protocol.sampling_params import SamplingParams

_RUNNING_PROMPT_TOKENS = 16
_QUIET_STEPS = 20  # before the long prompt comes, and after its first token


@dataclass(frozen=True)
class Outcome:
    """One budget's run, in seconds since the long prompt came. `moments`: when the running answers got a token, each of
    them one at a time. A gap lies between two of those; `quiet_gap` is the middle one before the prompt came, the
    other two are of the time until its first token."""

    budget: int
    time_to_first_token: float
    longest_gap: float
    gap_p99: float
    quiet_gap: float
    moments: list[float]


def run(model: str, dtype: str, prompt: int, running: int, budgets: str, seed: int) -> Report:
    """`running` answers are under way when a prompt of `prompt` tokens arrives; once for each budget, the last so large
    that the prompt runs in one step."""
    outcomes = []
    for budget in [*_budgets(budgets, prompt, running), prompt + running]:
        engine = open_engine(
            configure(
                model,
                dtype=dtype,
                max_num_seqs=running + 1,
                max_num_batched_tokens=budget,
                enable_prefix_caching=False,
            )
        )
        ready = engine.ready
        outcomes.append(measure(engine, budget, prompt, running, seed))
        del engine  # a GPU has room for one
    return Report(
        name="chunked-prefill",
        finding=_finding(outcomes, prompt),
        machine=machine(ready.device),
        setting=f"{model} {ready.dtype}",
        table=_table(outcomes),
        draw=lambda context: _draw(outcomes, prompt, running, context),
        figures={"prompt_tokens": prompt, "running": running, "budgets": [asdict(one) for one in outcomes]},
    )


def measure(engine: Engine, budget: int, prompt: int, running: int, seed: int) -> Outcome:
    """One run on an engine whose steps have `budget` tokens. BadOption where the prompt is longer than it serves."""
    generator, vocab = np.random.default_rng(seed), engine.ready.vocab_size
    if prompt >= engine.ready.max_model_len:
        raise BadOption(f"prompt: must be below {engine.ready.max_model_len:,} tokens, got {prompt:,}")
    endless = SamplingParams(temperature=0.0, ignore_eos=True)
    for index in range(running):
        engine.add_request(str(index), random_prompt(generator, _RUNNING_PROMPT_TOKENS, vocab), endless)
    ends: list[float] = []
    for _ in range(_QUIET_STEPS):
        engine.step()
        ends.append(time.perf_counter())
    came, arrived = time.perf_counter(), len(ends)
    engine.add_request("long", random_prompt(generator, prompt, vocab), SamplingParams(temperature=0.0, max_tokens=1))
    first: int | None = None
    while first is None or len(ends) < first + _QUIET_STEPS:
        told = {output.request_id for output in engine.step()}
        assert len(told - {"long"}) == running, "a running answer got no token in a step"
        ends.append(time.perf_counter())
        if "long" in told:
            first = len(ends)
    for index in range(running):
        engine.abort(str(index))
    gaps = [after - before for before, after in pairwise(ends)]
    during = gaps[arrived - 1 : first - 1]
    return Outcome(
        budget=budget,
        time_to_first_token=ends[first - 1] - came,
        longest_gap=max(during),
        gap_p99=percentile(during, 99),
        quiet_gap=percentile(gaps[1 : arrived - 1], 50),
        moments=[moment - came for moment in ends],
    )


def _budgets(text: str, prompt: int, running: int) -> list[int]:
    low = max(16, running + 1)
    try:
        budgets = sorted(int(word) for word in text.split(","))
    except ValueError:
        raise BadOption(f"budgets: must be whole numbers such as 64,256, got {text!r}") from None
    for budget in budgets:
        if not low <= budget < prompt:
            raise BadOption(f"budgets: must be from {low} to the prompt's {prompt} tokens, got {budget}")
    return budgets


def _finding(outcomes: list[Outcome], prompt: int) -> str:
    chunks, whole = outcomes[0].longest_gap * 1000, outcomes[-1].longest_gap * 1000
    return f"In chunks a {prompt:,}-token prompt stalls answers for {chunks:.0f} ms at most, whole for {whole:,.0f} ms"


def _table(outcomes: list[Outcome]) -> Table:
    table = Table()
    for heading in ("tokens a step", "longest gap, ms", "gap p99, ms", "quiet gap, ms", "long prompt's first token, s"):
        table.add_column(heading, justify="right")
    for one in outcomes:
        table.add_row(
            f"{one.budget:,}",
            f"{one.longest_gap * 1000:.0f}",
            f"{one.gap_p99 * 1000:.0f}",
            f"{one.quiet_gap * 1000:.0f}",
            f"{one.time_to_first_token:.2f}",
        )
    return table


def _draw(outcomes: list[Outcome], prompt: int, running: int, context: str) -> Figure:
    """Gaps over time: the smallest budget, and the whole prompt in one step."""
    picture = figure(
        _finding(outcomes, prompt),
        f"{running} answers are under way when the prompt arrives; each point is a token of each of them",
        context,
    )
    axes = picture.subplots()
    for one, colour in ((outcomes[-1], BASELINE), (outcomes[0], OCTAVO)):
        gaps = [(after - before) * 1000 for before, after in pairwise(one.moments)]
        axes.plot(one.moments[1:], gaps, "o-", color=colour, markersize=3, linewidth=1)
        peak = int(np.argmax(gaps))
        axes.annotate(
            f"{one.budget:,} tokens a step",
            (one.moments[peak + 1], gaps[peak]),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            color=colour,
        )
    quiet(axes, x="seconds since the long prompt arrived", y="since the token before, ms (log scale)")
    axes.set_yscale("log")
    axes.margins(y=0.12)
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
    return picture
