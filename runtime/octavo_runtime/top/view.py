"""From figures to what the terminal shows. Pure; 80 columns do."""

import math
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from octavo_runtime.top.figures import LATENCIES, Figures, Traffic

_KEYS_SHOWN = 12
_BAR_CELLS = 32
_FULL, _NEARLY_FULL = 0.95, 0.8


def view(figures: Figures, url: str) -> RenderableType:
    """The whole view of a server."""
    parts: list[RenderableType] = [_title(figures, url), Text(), _load(figures), Text(), _latencies(figures)]
    if figures.traffic:
        parts += [Text(), _keys(figures.traffic[:_KEYS_SHOWN])]
    if len(figures.traffic) > _KEYS_SHOWN:
        parts.append(Text(f"and {len(figures.traffic) - _KEYS_SHOWN} keys more", "dim"))
    return Group(*parts)


def lost(reason: str, seconds: float) -> RenderableType:
    """What is shown while no sample comes. seconds: since the last one, or the start."""
    return Group(Text(_plain(reason), "bold red"), Text(f"for {seconds:.0f} s; trying on, Ctrl-C ends", "dim"))


def _title(figures: Figures, url: str) -> Text:
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(_plain(figures.model), "bold").append("  ")
    title.append(_plain(figures.health), "green" if figures.health == "ready" else "bold red")
    return title.append(f"  {_plain(url)}  over {figures.seconds:.1f} s", "dim")


def _load(figures: Figures) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", min_width=14)
    grid.add_column()
    grid.add_column()
    used, total = figures.blocks_used, figures.blocks_total
    room = max(total, used, 1)
    full = used / room
    style = "red" if full > _FULL else "yellow" if full > _NEARLY_FULL else "green"
    places = max(figures.running + figures.waiting, 1)
    grid.add_row("running", _bar(figures.running, places, "green"), f"{figures.running:,}")
    swapped = f"  ({figures.swapped:,} answers swapped)" if figures.swapped else ""
    grid.add_row("waiting", _bar(figures.waiting, places, "yellow"), f"{figures.waiting:,}{swapped}")
    grid.add_row("KV blocks", _bar(used, room, style), f"{used:,} of {total:,}  {full:.1%}")
    ever = _percent(figures.hit_rate_since_start)
    hits = _percent(figures.hit_rate)
    grid.add_row("prefix hits", _bar(figures.hit_rate or 0.0, 1.0, "blue"), f"{hits}  (since the start {ever})")
    grid.add_row("prompt", f"{figures.prompt_tokens:,.1f} tokens/s")
    grid.add_row("generated", f"{figures.generated_tokens:,.1f} tokens/s")
    return grid


def _bar(part: float, whole: float, style: str) -> ProgressBar:
    return ProgressBar(whole, part, width=_BAR_CELLS, complete_style=style, finished_style=style)


def _latencies(figures: Figures) -> Table:
    table = _table("latency", ("p50", "p99"))
    for name, latency in figures.latencies.items():
        most = LATENCIES[name].buckets[-1]
        table.add_row(name, _seconds(latency.p50, most), _seconds(latency.p99, most))
    return table


def _keys(traffic: Iterable[Traffic]) -> Table:
    table = _table("key", ("requests/s", "refused/s", "prompt/s", "generated/s"))
    for one in traffic:
        rates = (one.requests, one.refused, one.prompt_tokens, one.generated_tokens)
        table.add_row(Text(_plain(one.key) or "(none)"), *(f"{rate:,.1f}" for rate in rates))
    return table


def _table(first: str, others: Iterable[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, style="cyan", min_width=14, max_width=28, no_wrap=True, overflow="ellipsis")
    for name in others:
        table.add_column(name, justify="right", min_width=9, no_wrap=True)
    return table


def _seconds(value: float | None, most: float) -> str:
    if value is None:
        return "-"
    if math.isinf(value):
        return f"over {most:g} s"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _plain(text: str) -> str:
    """Text of a server without what would steer the terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
