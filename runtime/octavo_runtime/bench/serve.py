"""`octavo bench serve`: the requests of `octavo bench offline` through `octavo serve`, streamed over HTTP."""

import asyncio
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from octavo_runtime.bench.event_reader import Stream, read_streams
from octavo_runtime.bench.jobs import Job, percentile, poisson_arrivals
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.model_shape import served
from octavo_runtime.bench.offline_requests import check_lengths, within, workload
from octavo_runtime.bench.rows import Row, find_peer, publish
from octavo_runtime.bench.server import serving
from octavo_runtime.config.flags import engine_flags
from octavo_runtime.config.options import BadOption
from octavo_runtime.planning.known_models import find_spec

_NAME = "measured"
_IDLE_SECONDS = 5.0  # an idle engine captures a GPU's graphs


def run(
    model: str,
    weights: str,
    settings: dict[str, object],
    workloads: str,
    rates: str,
    peers: str,
    saved: str | None,
    *,
    as_json: bool,
) -> list[Row]:
    """Measures and prints each of the comma-separated `workloads` at each of the comma-separated `rates`."""
    chosen = {name.strip(): workload(name.strip()) for name in workloads.split(",")}
    arrivals = {rate: _rate(rate) for rate in (word.strip() for word in rates.split(","))}
    check_lengths(chain(*chosen.values()), int(str(settings["max_model_len"])))
    with served(model, weights) as (opened, needed):
        vocabulary = find_spec(opened).vocab_size
        if needed:
            _write_tokenizer(Path(opened), vocabulary)
        with serving(opened, ["--served-name", _NAME, *engine_flags(settings | needed)]) as server:
            url = f"{server.base_url}/completions"
            device = machine(server.device)
            peer = find_peer(peers, device)
            # Prompts of their own: what is measured shall not find them in the prefix cache.
            first = [Job(job.prompt[::-1], min(job.output_len, 16)) for job in next(iter(chosen.values()))[:8]]
            _stream(url, first, vocabulary, 0)
            time.sleep(_IDLE_SECONDS)
            rows = []
            for name, jobs in chosen.items():
                for rate, per_second in arrivals.items():
                    streams = _stream(url, jobs, vocabulary, per_second)
                    rows.append(_row(f"{name}@{rate}/s" if per_second else name, jobs, streams))
    publish("serve", device, f"{model}, {server.dtype}, over HTTP", rows, peer, saved, as_json=as_json)
    return rows


def _stream(url: str, jobs: Sequence[Job], vocabulary: int, rate: float) -> list[Stream]:
    """The jobs' answers; `rate`: requests a second, a Poisson process; 0: all at once."""
    bodies: list[dict[str, object]] = [
        {
            "model": _NAME,
            "prompt": job.prompt,
            "max_tokens": job.output_len,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for job in map(within(vocabulary), jobs)
    ]
    arrivals = poisson_arrivals(np.random.default_rng(0), len(jobs), rate)
    try:
        return asyncio.run(read_streams(url, bodies, arrivals))
    except ConnectionError as error:
        raise BadOption(f"the server refuses the requests: {error}") from None


def _row(name: str, jobs: Sequence[Job], streams: Sequence[Stream]) -> Row:
    """From the first request to the last one's end; latencies from when a request is sent."""
    missing = [job.output_len - stream.tokens for job, stream in zip(jobs, streams, strict=True)]
    if any(missing):
        raise BadOption(f"{sum(map(bool, missing))} answers are not of the length that was asked for")
    took = max(stream.ended for stream in streams) - min(stream.sent for stream in streams)
    first = [(stream.first_event - stream.sent) * 1e3 for stream in streams]
    gaps = [(stream.ended - stream.first_event) * 1e3 / (stream.tokens - 1) for stream in streams if stream.tokens > 1]
    return Row(
        name,
        {
            "seconds": took,
            "req_s": len(jobs) / took,
            "out_tok_s": sum(job.output_len for job in jobs) / took,
            "ttft_p50_ms": percentile(first, 50),
            "ttft_p99_ms": percentile(first, 99),
            "itl_p50_ms": percentile(gaps, 50),
            "itl_p99_ms": percentile(gaps, 99),
        },
    )


def _rate(word: str) -> float:
    try:
        rate = float(word)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 10_000:
        raise BadOption(f"rates: must be numbers from 0 (all at once) to 10000, got {word!r}")
    return rate


def _write_tokenizer(folder: Path, vocabulary: int) -> None:
    """One of made-up words, for a shape that comes without: each token is a word."""
    words = [f"w{token}" for token in range(vocabulary)]
    model = WordLevel({word: token for token, word in enumerate(words)}, unk_token=words[0])
    Tokenizer(model).save(str(folder / "tokenizer.json"))
