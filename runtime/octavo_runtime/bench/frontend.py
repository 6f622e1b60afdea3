"""`octavo bench frontend`: what the API process adds to the engine's tokens, with a source of tokens as the engine."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from matplotlib.figure import Figure
from rich.table import Table

from octavo_runtime.bench import frontend_peers, frontend_server, token_source
from octavo_runtime.bench.event_reader import Stream, read_streams
from octavo_runtime.bench.figure import BASELINE, INK, OCTAVO, figure, quiet
from octavo_runtime.bench.jobs import percentile
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.report import Report
from octavo_runtime.bench.server import serving
from octavo_runtime.config.options import BadOption
from octavo_runtime.models.loading.files import default_name

_PROMPT_WORDS = 4000  # of one token each, before the template's
_PROMPT_REQUESTS = 20
_START_SECONDS = 20.0


def run(model: str, streams: int, tokens: int, rate: int, workers: int) -> Report:
    """Streams of `tokens` tokens each: at once and as fast as they are read, then at `rate` tokens a second. A server
    that falls behind joins tokens of one stream into one event."""
    flags = ["--api-workers", str(workers)] if workers > 1 else []
    name = f"octavo, {workers} API process{'es' if workers > 1 else ''}"
    fastest = _fastest(model, streams, tokens, flags)
    latencies = _latencies(model, streams, tokens, rate, flags)
    first_bytes = _first_bytes(model, flags)
    peers = {peer: _peer(path, streams, tokens) for peer, path in frontend_peers.PATHS.items()}
    speeds = {name: _speed(fastest), **{peer: _speed(read) for peer, read in peers.items()}}
    events = {name: _tokens_an_event(fastest), **{peer: _tokens_an_event(read) for peer, read in peers.items()}}
    p99 = percentile(latencies, 99)
    return Report(
        name="frontend",
        finding=f"{speeds[name]:,.0f} streamed tokens/s over {streams} streams; at {rate:,} tokens/s the server adds "
        f"{p99 * 1000:.1f} ms to a token (p99).",
        machine=machine("cpu"),
        setting=f"{model}'s tokenizer, {workers} API process{'es' if workers > 1 else ''}",
        table=_table(speeds, events, latencies, first_bytes, rate),
        draw=lambda context: _draw(speeds, latencies, rate, context),
        figures={
            "streams": streams,
            "tokens": tokens,
            "tokens_per_second": speeds,
            "tokens_per_event": events,
            "rate": rate,
            "added_latency_p50": percentile(latencies, 50),
            "added_latency_p99": p99,
            "first_byte_p50": statistics.median(first_bytes),
            "first_byte_p99": percentile(first_bytes, 99),
        },
    )


def _fastest(model: str, streams: int, tokens: int, flags: Sequence[str]) -> list[Stream]:
    with _source(model, flags) as url:
        _read(url, _bodies(model, streams, 20))
        return _read(url, _bodies(model, streams, tokens))


def _latencies(model: str, streams: int, tokens: int, rate: int, flags: Sequence[str]) -> list[float]:
    """Seconds from a token's leaving the source to its arrival at the client."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "times.json"
        with _source(model, flags, rate=rate, record=record) as url:
            read = _read(url, _bodies(model, streams, tokens))
        times = msgspec.json.decode(record.read_bytes(), type=dict[int, list[float]])
    return [
        arrival - left
        for index, stream in enumerate(read)
        for arrival, left in zip(stream.arrivals, times[index + 1], strict=True)
    ]


def _first_bytes(model: str, flags: Sequence[str]) -> list[float]:
    """Seconds to the first byte of the answer to a long prompt, one request after another."""
    text = " ".join(["word"] * _PROMPT_WORDS)
    body = {**_bodies(model, 1, 1)[0], "messages": [{"role": "user", "content": text}]}
    with _source(model, flags) as url:
        _read(url, [body])
        read = [_read(url, [body])[0] for _ in range(_PROMPT_REQUESTS)]
    return [stream.first_byte - stream.sent for stream in read]


def _peer(path: str, streams: int, tokens: int) -> list[Stream]:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with subprocess.Popen([sys.executable, "-m", frontend_peers.__name__, str(port)]) as process:
        try:
            _wait_for(port)
            return _read(f"http://127.0.0.1:{port}{path}", [{"max_tokens": tokens}] * streams)
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@contextmanager
def _source(model: str, flags: Sequence[str], *, rate: int = 0, record: Path | None = None) -> Iterator[str]:
    """The server with the token source; the address of its chat endpoint."""
    environment = {**os.environ, token_source.RATE: str(rate)}
    if record is not None:
        environment[token_source.RECORD] = str(record)
    program = [sys.executable, "-m", frontend_server.__name__]
    with serving(model, flags, program=program, environment=environment) as server:
        yield f"{server.base_url}/chat/completions"


def _bodies(model: str, streams: int, tokens: int) -> list[dict[str, Any]]:
    """Requests that the source tells apart by their seeds."""
    body = {
        "model": default_name(model),
        "messages": [{"role": "user", "content": "Go on."}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
    }
    return [{**body, "seed": index + 1} for index in range(streams)]


def _read(url: str, bodies: Sequence[dict[str, Any]]) -> list[Stream]:
    try:
        return uvloop.run(read_streams(url, bodies))
    except ConnectionError as error:
        raise BadOption(f"the server refuses the requests: {error}") from None


def _speed(read: Sequence[Stream]) -> float:
    began, ended = min(stream.first_byte for stream in read), max(stream.ended for stream in read)
    return sum(len(stream.arrivals) for stream in read) / (ended - began)


def _tokens_an_event(read: Sequence[Stream]) -> float:
    return sum(len(stream.arrivals) for stream in read) / sum(stream.events for stream in read)


def _table(
    speeds: dict[str, float],
    events: dict[str, float],
    latencies: Sequence[float],
    first_bytes: Sequence[float],
    rate: int,
) -> Table:
    table = Table(
        "", "tokens/s", "tokens an event", "added to a token, p50 / p99", "first byte of a 4k prompt, p50 / p99"
    )
    for index, (name, speed) in enumerate(speeds.items()):
        cells = ("-", "-")
        if index == 0:
            added = f"{_ms(percentile(latencies, 50))} / {_ms(percentile(latencies, 99))} at {rate:,} tokens/s"
            cells = (added, f"{_ms(statistics.median(first_bytes))} / {_ms(percentile(first_bytes, 99))}")
        table.add_row(name, f"{speed:,.0f}", f"{events[name]:.1f}", *cells)
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _draw(speeds: dict[str, float], latencies: Sequence[float], rate: int, context: str) -> Figure:
    ours = next(iter(speeds.values()))
    picture = figure(
        f"One server streams {ours:,.0f} tokens a second",
        f"Left: tokens as fast as they are read. Right: what the server adds to a token at {rate:,} tokens/s.",
        context,
    )
    left, right = picture.subplots(1, 2)
    colours = [OCTAVO, *[BASELINE] * (len(speeds) - 1)]
    bars = left.barh(list(speeds), list(speeds.values()), color=colours)
    left.bar_label(bars, labels=[f"{speed:,.0f}" for speed in speeds.values()], padding=4, color=INK)
    left.invert_yaxis()
    quiet(left, x="tokens/s")
    picture.subplots_adjust(left=0.2)
    ordered = sorted(latencies)
    shares = [100 * (index + 1) / len(ordered) for index in range(len(ordered))]
    right.plot([1000 * seconds for seconds in ordered], shares, color=OCTAVO)
    quiet(right, x="milliseconds", y="% of the tokens")
    return picture
