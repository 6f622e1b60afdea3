"""Rows of figures beside those of a peer that ran the same requests on the same kind of device."""

import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from octavo_runtime.config.options import BadOption
from octavo_runtime.config.user_path import user_path

# Figures, and whether more of it is better. The first of these that a row has is the one it is judged by.
_MORE_IS_BETTER = {
    "out_tok_s": True,
    "itl_ms": False,
    "ttft_ms": False,
    "req_s": True,
    "seconds": False,
    "us": False,
}
_DIGITS = 4  # of a figure that is shown


@dataclass(frozen=True)
class Row:
    """One measurement: its figures by name."""

    name: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Peer:
    """What an engine reached on a device: figures by row. `engine` and `device` are names for people."""

    engine: str
    device: str
    date: str
    rows: dict[str, dict[str, float]] = field(default_factory=dict)


def find_peer(wanted: str, device: str, kind: str = "engine") -> Peer | None:
    """A peer table: a JSON file by its path, `auto` for a saved one of the device, `none`. kind: the folder of those
    saved. Raises BadOption."""
    if wanted == "none":
        return None
    if wanted == "auto":
        saved = (_read(entry.read_text(), entry.name) for entry in _saved(kind))
        return next((peer for peer in saved if peer.device == device), None)
    try:
        return _read(user_path(wanted).read_text(), wanted)
    except OSError as error:
        raise BadOption(f"peers: must be auto, none or a file, got {wanted!r} ({error.strerror})") from None


def publish(
    bench: str,
    device: str,
    setting: str,
    rows: list[Row],
    peer: Peer | None,
    saved: str | None = None,
    *,
    as_json: bool,
    forms: Sequence[str] = (),
) -> None:
    """Prints the rows, a table for people or one JSON object alone; then saves them where `saved` names a file, so that
    what took minutes is seen in any case. forms: what is measured in several of them has figures that begin with a
    form's name, such as fp8_us; the table has a row for each. Raises BadOption."""
    _print(bench, device, setting, rows, peer, forms, as_json=as_json)
    if saved is not None:
        _save(saved, device, rows)


def _save(path: str, device: str, rows: list[Row]) -> None:
    """Writes our figures as a table that find_peer reads. Raises BadOption."""
    figures = {row.name: row.figures for row in rows}
    told = {"engine": "Octavo", "device": device, "date": f"{datetime.now():%Y-%m-%d}", "rows": figures}
    try:
        user_path(path).write_text(json.dumps(told, indent=1) + "\n")
    except OSError as error:
        raise BadOption(f"save: must be a file that can be written, got {path!r} ({error.strerror})") from None


def _print(
    bench: str, device: str, setting: str, rows: list[Row], peer: Peer | None, forms: Sequence[str], *, as_json: bool
) -> None:
    moment = datetime.now().astimezone()
    command = shlex.join(["octavo", *sys.argv[1:]])
    compared = [{"name": row.name, **row.figures, **_beside(row, peer)} for row in rows]
    if as_json:
        told = {"bench": bench, "date": moment.isoformat(timespec="seconds"), "machine": device, "setting": setting}
        print(json.dumps({**told, "command": command, "peer": peer and peer.engine, "rows": compared}))
        return
    console = Console(highlight=False)
    console.print(f"$ {command}\n{moment:%Y-%m-%d}, {device}, {setting}", markup=False, soft_wrap=True)
    console.print(_table([each for row in rows for each in _by_form(row, forms)], peer))
    if peer is not None:
        console.print(
            f"Peer: {peer.engine}, {peer.device}, {peer.date}. Ratio: above 1 is faster than it.", markup=False
        )


def _table(rows: list[Row], peer: Peer | None) -> Table:
    """On a narrow terminal the rows' names are wrapped, and never a figure."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    table = Table(box=box.SIMPLE)
    table.add_column("row")
    for name in [*names, *(("peer", "ratio") if peer is not None else ())]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [_shown(row.figures[name]) if name in row.figures else "-" for name in names]
        if peer is not None:
            beside = _beside(row, peer)
            cells += (
                [f"{_shown(beside['peer'])} {beside['judged']}", f"{beside['ratio']:.2f}"] if beside else ["-", "-"]
            )
        table.add_row(row.name, *cells)
    return table


def _by_form(row: Row, forms: Sequence[str]) -> Iterator[Row]:
    """The row without what was measured in other forms, and that of each form."""
    starts = tuple(f"{form}_" for form in forms)
    yield Row(row.name, {name: figure for name, figure in row.figures.items() if not name.startswith(starts)})
    for form, start in zip(forms, starts, strict=True):
        own = {name.removeprefix(start): figure for name, figure in row.figures.items() if name.startswith(start)}
        if own:
            yield Row(f"{row.name}, {form}", own)


def _shown(figure: float) -> str:
    """To _DIGITS digits, and no more than three behind the point."""
    before = math.floor(math.log10(abs(figure))) + 1 if figure and math.isfinite(figure) else 0
    return f"{figure:,.{max(0, min(3, _DIGITS - before))}f}"


def _beside(row: Row, peer: Peer | None) -> dict[str, Any]:
    """The peer's figure for a row, by which figure it is judged, and how many times as fast the row is."""
    theirs = peer.rows.get(row.name, {}) if peer is not None else {}
    judged = next((name for name in _MORE_IS_BETTER if theirs.get(name) and row.figures.get(name)), None)
    if judged is None:
        return {}
    ratio = row.figures[judged] / theirs[judged]
    return {"judged": judged, "peer": theirs[judged], "ratio": ratio if _MORE_IS_BETTER[judged] else 1 / ratio}


def _saved(kind: str) -> Iterable[Any]:
    folder = files("octavo_runtime.bench") / "peers" / kind
    return sorted((entry for entry in folder.iterdir() if entry.name.endswith(".json")), key=lambda entry: entry.name)


def _read(text: str, name: str) -> Peer:
    try:
        told = json.loads(text)
        rows = {row: {key: float(value) for key, value in figures.items()} for row, figures in told["rows"].items()}
        return Peer(str(told["engine"]), str(told["device"]), str(told["date"]), rows)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadOption(f"peers: must be JSON with engine, device, date and rows, got {name!r} ({error})") from None
