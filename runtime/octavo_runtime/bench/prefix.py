"""`octavo bench prefix`: prompts that begin alike, with and without the prefix cache."""

from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from octavo_runtime.bench.drive import configure, drive, open_engine
from octavo_runtime.bench.figure import BASELINE, OCTAVO, figure, label, quiet
from octavo_runtime.bench.jobs import Job, percentile, random_prompt
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.report import Report
from octavo_runtime.protocol.messages import Ready

_HEADINGS = ("prefix cache", "hit rate", "TTFT first, ms", "TTFT later p50, ms", "TTFT later p99, ms", "all done, s")


@dataclass(frozen=True)
class Outcome:
    """The requests one after another. `ttft`: seconds until each one's first token; `hit_rate`: share of all prompt
    tokens that were found in the cache; `token_ids`: the answers."""

    seconds: float
    ttft: list[float]
    hit_rate: float
    token_ids: list[list[int]]

    @property
    def ttft_warm(self) -> float:
        """The median over all requests but the first, which finds the cache empty."""
        return percentile(self.ttft[1:], 50)


def run(model: str, dtype: str, requests: int, shared: int, own: int, tokens: int, seed: int) -> Report:
    """`requests` prompts of `shared` tokens in common and `own` tokens each; `tokens` are generated for each."""
    ready, without = _measure(model, dtype, requests, shared, own, tokens, seed, caching=False)
    _, cached = _measure(model, dtype, requests, shared, own, tokens, seed, caching=True)
    return Report(
        name="prefix",
        finding=_finding(without, cached, shared),
        machine=machine(ready.device),
        setting=f"{model} {ready.dtype}",
        table=_table(without, cached),
        draw=lambda context: _draw(without, cached, shared, own, context),
        figures={
            "shared_tokens": shared,
            "own_tokens": own,
            "output_tokens": tokens,
            "without_cache": asdict(without),
            "with_cache": asdict(cached),
        },
    )


def _measure(
    model: str, dtype: str, requests: int, shared: int, own: int, tokens: int, seed: int, *, caching: bool
) -> tuple[Ready, Outcome]:
    """The requests one after another through an engine of their own; the same seed makes the same prompts."""
    engine = open_engine(configure(model, dtype=dtype, enable_prefix_caching=caching))
    generator, vocab_size = np.random.default_rng(seed), engine.ready.vocab_size
    prefix = random_prompt(generator, shared, vocab_size)
    before = engine.load
    traces = [drive(engine, [Job(prefix + random_prompt(generator, own, vocab_size), tokens)]) for _ in range(requests)]
    queries = engine.load.prefix_queries - before.prefix_queries
    hits = engine.load.prefix_hits - before.prefix_hits
    return engine.ready, Outcome(
        seconds=sum(trace.seconds for trace in traces),
        ttft=[trace.first_token[0] for trace in traces],
        hit_rate=hits / queries if queries else 0.0,
        token_ids=[trace.token_ids[0] for trace in traces],
    )


def _finding(without: Outcome, cached: Outcome, shared: int) -> str:
    return (
        f"{shared:,} shared tokens computed once: first token in {cached.ttft_warm * 1e3:.0f} ms, "
        f"not {without.ttft_warm * 1e3:.0f} ms"
    )


def _table(without: Outcome, cached: Outcome) -> Table:
    table = Table()
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading == "prefix cache" else "right")
    for name, one in (("off", without), ("on", cached)):
        table.add_row(
            name,
            f"{one.hit_rate:.1%}",
            f"{one.ttft[0] * 1e3:.0f}",
            f"{one.ttft_warm * 1e3:.0f}",
            f"{percentile(one.ttft[1:], 99) * 1e3:.0f}",
            f"{one.seconds:.1f}",
        )
    return table


def _draw(without: Outcome, cached: Outcome, shared: int, own: int, context: str) -> Figure:
    """Time to first token of each request in turn."""
    requests = range(1, len(cached.ttft) + 1)
    picture = figure(
        _finding(without, cached, shared),
        f"{len(cached.ttft)} requests one after another: {shared:,} tokens in common and {own} of their own; "
        f"{cached.hit_rate:.0%} of the prompt tokens came from the cache",
        context,
    )
    axes = picture.subplots()
    for one, colour, name in ((without, BASELINE, "without prefix cache"), (cached, OCTAVO, "with prefix cache")):
        axes.plot(requests, [seconds * 1e3 for seconds in one.ttft], "o-", color=colour, markersize=6, linewidth=1.5)
        label(axes, requests[-1], one.ttft[-1] * 1e3, f"{name}\nmedian {one.ttft_warm * 1e3:.0f} ms", colour)
    quiet(axes, x="request", y="time to first token, ms")
    axes.set_ylim(bottom=0)
    axes.set_xticks([1, *requests[len(requests) // 4 :: max(1, len(requests) // 4)]])
    picture.subplots_adjust(right=0.80)
    return picture
