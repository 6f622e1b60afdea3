"""`octavo bench kv-cache`: what it costs to generate without a KV cache, on the same engine."""

from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from octavo_runtime.bench.drive import configure, drive, open_engine
from octavo_runtime.bench.figure import BASELINE, OCTAVO, figure, label, quiet
from octavo_runtime.bench.jobs import Job, percentile, random_prompt
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.report import Report
from octavo_runtime.engine.engine import Engine


@dataclass(frozen=True)
class Outcome:
    """One answer: its tokens, and the seconds that each took; the first includes the prompt."""

    token_ids: list[int]
    token_seconds: list[float]

    @property
    def seconds(self) -> float:
        return sum(self.token_seconds)

    @property
    def late(self) -> float:
        """The median of the last tenth of the tokens, where the sequence is longest."""
        return percentile(self.token_seconds[-max(1, len(self.token_seconds) // 10) :], 50)


def run(model: str, dtype: str, prompt: int, tokens: int, seed: int) -> Report:
    """`tokens` tokens after a prompt of `prompt`, with the KV cache and without."""
    generator = np.random.default_rng(seed)
    engine = open_engine(configure(model, dtype=dtype, enable_prefix_caching=False))
    prompt_ids = random_prompt(generator, prompt, engine.ready.vocab_size)
    cached = with_cache(engine, prompt_ids, tokens)
    without = without_cache(engine, prompt_ids, tokens)
    equal = sum(one == other for one, other in zip(cached.token_ids, without.token_ids, strict=True))
    return Report(
        name="kv-cache",
        finding=_finding(cached, without),
        machine=machine(engine.ready.device),
        setting=f"{model} {engine.ready.dtype}",
        table=_table(cached, without, prompt, equal),
        draw=lambda context: _draw(cached, without, prompt, context),
        figures={
            "prompt_tokens": prompt,
            "output_tokens": tokens,
            "equal_tokens": equal,
            "with_cache": asdict(cached),
            "without_cache": asdict(without),
        },
    )


def with_cache(engine: Engine, prompt_ids: list[int], tokens: int) -> Outcome:
    """One request: each step computes the newest token alone."""
    trace = drive(engine, [Job(prompt_ids, tokens)])
    return Outcome(trace.token_ids[0], [later - earlier for earlier, later in pairwise([0.0, *trace.token_times[0]])])


def without_cache(engine: Engine, prompt_ids: list[int], tokens: int) -> Outcome:
    """One request a token, which computes the whole sequence anew. The engine's prefix cache must be off."""
    answer: list[int] = []
    seconds = []
    for _ in range(tokens):
        trace = drive(engine, [Job(prompt_ids + answer, 1)])
        answer += trace.token_ids[0]
        seconds.append(trace.seconds)
    return Outcome(answer, seconds)


def _finding(cached: Outcome, without: Outcome) -> str:
    return (
        f"The KV cache makes {len(cached.token_ids):,} tokens {without.seconds / cached.seconds:.1f}x faster: "
        f"{cached.seconds:.1f} s instead of {without.seconds:.1f} s"
    )


def _table(cached: Outcome, without: Outcome, prompt: int, equal: int) -> Table:
    """Medians over tenths of the answer, so that one slow step does not stand for its neighbours."""
    tokens = len(cached.token_ids)
    table = Table(caption=f"{equal} of {tokens} tokens are the same")
    for heading in ("sequence length", "with KV cache, ms/token", "without, ms/token", "ratio"):
        table.add_column(heading, justify="right")
    for first, end in _spans(tokens):
        one, other = (percentile(outcome.token_seconds[first:end], 50) * 1e3 for outcome in (cached, without))
        table.add_row(f"{prompt + first:,} - {prompt + end - 1:,}", f"{one:.1f}", f"{other:.1f}", f"{other / one:.1f}")
    table.add_section()
    table.add_row(
        "all, s", f"{cached.seconds:.1f}", f"{without.seconds:.1f}", f"{without.seconds / cached.seconds:.1f}"
    )
    return table


def _spans(tokens: int) -> list[tuple[int, int]]:
    """Up to five equal parts of the answer, as (first, end)."""
    edges = [int(edge) for edge in np.linspace(0, tokens, min(tokens, 5) + 1)]
    return list(pairwise(edges))


def _draw(cached: Outcome, without: Outcome, prompt: int, context: str) -> Figure:
    """Time per token over the sequence's length; the first token, which pays for the prompt either way, is left out."""
    picture = figure(
        _finding(cached, without),
        f"A prompt of {prompt} tokens. Without the cache each token computes the whole sequence again. "
        "Dots: tokens; lines: running medians",
        context,
    )
    axes = picture.subplots()
    lengths = range(prompt + 1, prompt + len(cached.token_seconds))
    highest = 0.0
    for one, colour, name in ((without, BASELINE, "without KV cache"), (cached, OCTAVO, "with KV cache")):
        milliseconds = [seconds * 1e3 for seconds in one.token_seconds[1:]]
        medians = _running_medians(milliseconds)
        axes.plot(lengths, milliseconds, ".", color=colour, markersize=4, alpha=0.35, markeredgewidth=0)
        axes.plot(lengths, medians, color=colour, linewidth=2)
        label(axes, lengths[-1], medians[-1], f"{name}\n{one.late * 1e3:.0f} ms at the end", colour)
        highest = max(highest, *medians)
    quiet(axes, x="tokens in the sequence", y="time per token, ms")
    axes.set_ylim(0, 1.4 * highest)  # a token that another process held up may lie above
    picture.subplots_adjust(right=0.80)
    return picture


def _running_medians(values: list[float]) -> list[float]:
    """The median of each value and its four neighbours on either side."""
    return [percentile(values[max(0, index - 4) : index + 5], 50) for index in range(len(values))]
