"""From two samples of a server to the figures of the time between them. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.metrics import Metric
from octavo_runtime.top.sample import Sample

LATENCIES = {
    "first token": metrics.TIME_TO_FIRST_TOKEN,
    "between tokens": metrics.INTER_TOKEN_LATENCY,
    "whole answer": metrics.REQUEST_DURATION,
}


@dataclass(frozen=True)
class Latency:
    """Seconds that half, and 99 of 100, took at most: infinity over the histogram's last bound, None for no
    observation."""

    p50: float | None
    p99: float | None


@dataclass(frozen=True)
class Traffic:
    """What came with one key, each a second. refused: answers with an HTTP status of 400 and more."""

    key: str
    requests: float
    refused: float
    prompt_tokens: float
    generated_tokens: float


@dataclass(frozen=True)
class Figures:
    """seconds: what the figures cover. Token rates are a second; hit rates from 0 to 1, None for no lookup."""

    model: str
    health: str
    seconds: float
    running: int
    waiting: int
    swapped: int
    blocks_used: int
    blocks_total: int
    hit_rate: float | None
    hit_rate_since_start: float | None
    prompt_tokens: float
    generated_tokens: float
    latencies: dict[str, Latency]
    traffic: list[Traffic]


def figures(before: Sample, after: Sample) -> Figures:
    """The figures of the time from `before` to `after`."""
    seconds = max(after.time - before.time, 1e-9)
    blocks = after.label(metrics.CACHE_CONFIG_INFO.name, "num_gpu_blocks")
    total = int(blocks) if blocks.isdecimal() else 0
    queries, hits = (
        (grown(before, after, metric), after.total(metric.name))
        for metric in (metrics.PREFIX_CACHE_QUERIES, metrics.PREFIX_CACHE_HITS)
    )
    return Figures(
        model=after.label(metrics.REQUESTS_RUNNING.name, "model_name"),
        health=after.health,
        seconds=seconds,
        running=round(after.total(metrics.REQUESTS_RUNNING.name)),
        waiting=round(after.total(metrics.REQUESTS_WAITING.name)),
        swapped=round(after.total(metrics.REQUESTS_SWAPPED.name)),
        blocks_used=round(after.total(metrics.KV_CACHE_USAGE_RATIO.name) * total),
        blocks_total=total,
        hit_rate=_share(hits[0], queries[0]),
        hit_rate_since_start=_share(hits[1], queries[1]),
        prompt_tokens=grown(before, after, metrics.PROMPT_TOKENS) / seconds,
        generated_tokens=grown(before, after, metrics.GENERATION_TOKENS) / seconds,
        latencies={name: latency(before, after, metric) for name, metric in LATENCIES.items()},
        traffic=_traffic(before, after, seconds),
    )


def quantile(share: float, counts: dict[float, float]) -> float | None:
    """The value that a share of the observations lies below, those of a bucket taken as evenly spread, as Prometheus'
    histogram_quantile does. counts: from each bucket's upper bound, infinity included, to the observations up to it."""
    bounds = sorted(counts)
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    rank = share * counts[bounds[-1]]
    low, below = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= rank and counts[bound] > below:
            return bound if math.isinf(bound) else low + (bound - low) * (rank - below) / (counts[bound] - below)
        low, below = bound, max(counts[bound], below)
    return math.inf


def latency(before: Sample, after: Sample, metric: Metric) -> Latency:
    """What a histogram says of the time from `before` to `after`."""
    old, new = _buckets(before, metric), _buckets(after, metric)
    if any(new[bound] < old.get(bound, 0.0) for bound in new):
        old = {}  # the server started anew
    counts = {bound: new[bound] - old.get(bound, 0.0) for bound in new}
    return Latency(quantile(0.5, counts), quantile(0.99, counts))


def _buckets(sample: Sample, metric: Metric) -> dict[float, float]:
    counts: dict[float, float] = {}
    for labels, value in sample.series.get(f"{metric.name}_bucket", ()):
        bound = float(labels["le"])
        counts[bound] = counts.get(bound, 0.0) + value
    return counts


def _traffic(before: Sample, after: Sample, seconds: float) -> list[Traffic]:
    """The busiest keys first. The empty one stands for all requests that brought none."""
    requests, tokens = metrics.KEY_REQUESTS.name, metrics.KEY_TOKENS.name
    names = {labels.get("key", "") for name in (requests, tokens) for labels, _ in after.series.get(name, ())}

    def rate(name: str, key: str, wanted: Callable[[dict[str, str]], bool]) -> float:
        kinds = [labels for labels, _ in after.series.get(name, ()) if labels.get("key", "") == key and wanted(labels)]
        return sum(_increase(before.total(name, **labels), after.total(name, **labels)) for labels in kinds) / seconds

    traffic = [
        Traffic(
            key,
            requests=rate(requests, key, lambda _: True),
            refused=rate(requests, key, lambda labels: labels.get("status", "") >= "400"),
            prompt_tokens=rate(tokens, key, lambda labels: labels.get("kind") == "prompt"),
            generated_tokens=rate(tokens, key, lambda labels: labels.get("kind") == "generation"),
        )
        for key in names
    ]
    return sorted(traffic, key=lambda one: (-one.generated_tokens - one.prompt_tokens, -one.requests, one.key))


def grown(before: Sample, after: Sample, metric: Metric) -> float:
    """By how much a counter grew, over all its labels."""
    return _increase(before.total(metric.name), after.total(metric.name))


def _increase(old: float, new: float) -> float:
    """A counter that fell began at 0 again: its server started anew."""
    return new - old if new >= old else new


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
