"""`octavo bench memory`: how much of the KV cache holds tokens, and how many sequences share it, with paging and with
room set aside for the longest sequence (Kwon et al. 2023, section 3)."""

from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.table import Table

from octavo_runtime.bench.drive import Trace, configure, drive, open_engine
from octavo_runtime.bench.figure import INK, OCTAVO, WASTE, figure, quiet
from octavo_runtime.bench.jobs import Job, lognormal_lengths, random_prompt
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.report import Report
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.options import BadOption
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.specs import spec_of
from octavo_runtime.planning.kv_cache import kv_bytes_per_block, kv_element_size
from octavo_runtime.protocol.messages import Ready

_BLOCK_SIZE = 16
_SHORTEST = 2  # tokens: one of prompt, one of answer
_OUTPUT_SHARE = 8  # one token in so many is generated, the others are the prompt


@dataclass(frozen=True)
class Moment:
    """The KV cache at the end of a step, in slots: those that sequences hold, those of them with a token, and all."""

    started: float
    sequences: int
    held: int
    filled: int
    total: int


@dataclass(frozen=True)
class Usage:
    """What one run made of the KV cache. `peak`: most sequences in one step; `waste`: share of the held slots without
    a token, over time."""

    seconds: float
    peak: int
    waste: float
    preemptions: int
    moments: list[Moment]


def parse_lengths(text: str, most: int) -> list[int]:
    """Lengths from text such as 512,1024; BadOption where one is not from 2 to `most`."""
    lengths = []
    for word in text.split(","):
        if not word.strip().isdecimal() or not _SHORTEST <= int(word) <= most:
            bounds = f"{_SHORTEST} to max_model_len ({most})"
            raise BadOption(f"lengths: must be whole numbers from {bounds}, got {word.strip()!r}")
        lengths.append(int(word))
    return lengths


def run(model: str, dtype: str, lengths: str, max_model_len: int, sequences: int, requests: int, seed: int) -> Report:
    """Both mixes in both kinds of KV cache; the lognormal one has twice as many requests, of half the length.

    The KV cache's size is what `sequences` of `max_model_len` tokens take when room for each is set aside: then no
    more than these run at once."""
    generator = np.random.default_rng(seed)
    given = parse_lengths(lengths, max_model_len)
    mixes = {
        "mixed": [given[index % len(given)] for index in range(requests)],
        "lognormal": [
            max(_SHORTEST, length)
            for length in lognormal_lengths(generator, 2 * requests, max_model_len / 5, max_model_len)
        ],
    }
    ready, set_aside = _measure(model, dtype, mixes, max_model_len, sequences, seed, paged=False)
    _, paged = _measure(model, dtype, mixes, max_model_len, sequences, seed, paged=True)
    pairs = {mix: (set_aside[mix], paged[mix]) for mix in mixes}
    return Report(
        name="memory",
        finding=_finding(list(pairs.values())),
        machine=machine(ready.device),
        setting=f"{model} {ready.dtype}",
        table=_table(pairs),
        draw=lambda context: _draw(pairs, sequences, max_model_len, context),
        figures={
            "max_model_len": max_model_len,
            "block_size": _BLOCK_SIZE,
            "kv_cache_slots": sequences * max_model_len,
            "mixes": [
                {
                    "mix": mix,
                    "lengths": mixes[mix],
                    "preallocated": asdict(set_aside),
                    "paged": asdict(paged),
                }
                for mix, (set_aside, paged) in pairs.items()
            ],
        },
    )


def _measure(
    model: str, dtype: str, mixes: dict[str, list[int]], max_model_len: int, sequences: int, seed: int, *, paged: bool
) -> tuple[Ready, dict[str, Usage]]:
    """Each mix through one engine. Preallocation is a bound on the sequences that run at once: it would have no room
    for another one."""
    config = configure(
        model,
        dtype=dtype,
        max_model_len=max_model_len,
        max_num_seqs=max(len(lengths) for lengths in mixes.values()) if paged else sequences,
        block_size=_BLOCK_SIZE,
        enable_prefix_caching=False,
    )
    size = _cache_bytes(config, sequences * max_model_len)
    engine = open_engine(config.model_copy(update={"kv_cache_memory": str(size)}))
    generator = np.random.default_rng(seed)
    usages = {}
    for mix, lengths in mixes.items():
        jobs = [_job(generator, length, engine.ready.vocab_size) for length in lengths]
        usages[mix] = usage(drive(engine, jobs), _BLOCK_SIZE, None if paged else max_model_len)
    return engine.ready, usages


def usage(trace: Trace, block_size: int, set_aside: int | None) -> Usage:
    """What a run did to the KV cache. `set_aside`: slots kept for each sequence; None where it held blocks."""
    moments = []
    for step in trace.steps:
        blocks = step.load.blocks_used + sum(-(-tokens // block_size) for tokens in step.ended)
        held = blocks * block_size if set_aside is None else step.rows * set_aside
        filled = step.load.blocks_used * block_size - step.load.slots_wasted + sum(step.ended)
        moments.append(Moment(step.started, step.rows, held, filled, step.load.blocks_total * block_size))
    seconds = [step.seconds for step in trace.steps]
    held_seconds = sum(moment.held * duration for moment, duration in zip(moments, seconds, strict=True))
    filled_seconds = sum(moment.filled * duration for moment, duration in zip(moments, seconds, strict=True))
    last = trace.steps[-1].load
    return Usage(
        seconds=trace.seconds,
        peak=max(step.rows for step in trace.steps),
        waste=1 - filled_seconds / held_seconds,
        preemptions=last.recomputes + last.swaps - trace.steps[0].load.recomputes - trace.steps[0].load.swaps,
        moments=moments,
    )


def _cache_bytes(config: EngineConfig, tokens: int) -> int:
    """Bytes of a KV cache that holds so many tokens in all layers."""
    spec = spec_of(locate(config.model))
    blocks = -(-tokens // config.block_size) * len(group_windows(spec))
    return blocks * kv_bytes_per_block(spec, config.block_size, kv_element_size(config))


def _job(generator: np.random.Generator, length: int, vocab_size: int) -> Job:
    output_len = max(1, length // _OUTPUT_SHARE)
    return Job(random_prompt(generator, length - output_len, vocab_size), output_len)


def _finding(pairs: list[tuple[Usage, Usage]]) -> str:
    set_aside, paged = pairs[0]
    return (
        f"Paging runs {paged.peak} sequences in the memory of {set_aside.peak}: "
        f"{paged.waste:.0%} of it wasted, not {set_aside.waste:.0%}"
    )


def _table(pairs: dict[str, tuple[Usage, Usage]]) -> Table:
    table = Table()
    for heading in ("lengths", "KV cache", "wasted", "at once", "preempted", "all done, s"):
        table.add_column(heading, justify="left" if heading in ("lengths", "KV cache") else "right", no_wrap=True)
    for mix, pair in pairs.items():
        for name, one in zip(("preallocated", "paged"), pair, strict=True):
            table.add_row(mix, name, f"{one.waste:.1%}", str(one.peak), str(one.preemptions), f"{one.seconds:.1f}")
        table.add_section()
    return table


def _draw(pairs: dict[str, tuple[Usage, Usage]], sequences: int, max_model_len: int, context: str) -> Figure:
    """Per mix one row: the KV cache over time, preallocated on the left and paged on the right."""
    picture = figure(
        _finding(list(pairs.values())),
        f"The same requests in a KV cache of {sequences} x {max_model_len:,} tokens. Preallocated: each sequence holds "
        f"{max_model_len:,}. Paged: blocks of {_BLOCK_SIZE}, as it grows",
        context,
        inches_high=7.6,
    )
    grid = picture.subplots(len(pairs), 2, squeeze=False, sharey=True, sharex="row")
    for row, (mix, pair) in zip(grid, pairs.items(), strict=True):
        for axes, name, one in zip(row, ("Preallocated", "Paged"), pair, strict=True):
            _draw_usage(axes, one)
            quiet(axes)
            axes.set_title(f"{name}: {one.peak} at once, {one.waste:.0%} wasted", loc="left", fontsize=11.5, color=INK)
        row[0].set_ylabel(f"{mix} lengths: % of the KV cache", fontsize=10.5, color=INK)
        row[0].set_ylim(0, 100)
        row[0].set_xlim(0, max(one.seconds for one in pair))
    for axes in grid[-1]:
        axes.set_xlabel("seconds", fontsize=10.5, color=INK)
    picture.legend(
        handles=[Patch(color=OCTAVO, label="holds tokens"), Patch(color=WASTE, label="wasted: held without a token")],
        loc="upper right",
        bbox_to_anchor=(0.96, 1 - 0.72 / 7.6),
        ncols=2,
        frameon=False,
        fontsize=10.5,
    )
    picture.subplots_adjust(hspace=0.32, wspace=0.10, top=1 - 1.45 / 7.6)
    return picture


def _draw_usage(axes: Axes, one: Usage) -> None:
    times = [moment.started for moment in one.moments] + [one.seconds]
    filled = [100 * moment.filled / moment.total for moment in one.moments]
    held = [100 * moment.held / moment.total for moment in one.moments]
    axes.stairs(held, times, fill=True, color=WASTE)
    axes.stairs(filled, times, fill=True, color=OCTAVO)
