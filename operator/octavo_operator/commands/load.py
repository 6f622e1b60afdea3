"""The load of a service between two looks at its pods' metrics, in figures. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.metrics import Metric
from octavo_runtime.top.figures import Latency, grown, latency
from octavo_runtime.top.sample import Sample, Series

_NOTHING = Sample(0.0, "", {})


@dataclass(frozen=True)
class Load:
    """Of all pods together, over `seconds`. Rates are a second; shares from 0 to 1, None where nothing tells.

    Attributes:
        waiting_before, waiting: requests that wait, at the start and at the end.
        kv_usage: of the pod that uses most.
        hit_rate, hit_rate_ever: of prompt tokens in the prefix cache, of late and since the pods started.
        whole_answer_ever, prompt_length: since the pods started.
        statuses: POST requests by HTTP status.
        gpu: how busy the GPUs are, as an average.
    """

    seconds: float
    pods: int
    running: int
    waiting_before: int
    waiting: int
    swapped: int
    kv_usage: float
    kv_tokens: int
    hit_rate: float | None
    hit_rate_ever: float | None
    prompt_tokens: float
    generated_tokens: float
    preemptions: float
    first_token: Latency
    between_tokens: Latency
    whole_answer: Latency
    whole_answer_ever: Latency
    queue: Latency
    prompt_length: Latency
    statuses: Mapping[str, float]
    failed: float
    gpu: float | None

    @property
    def requests(self) -> float:
        """POST requests a second, whatever became of them."""
        return sum(self.statuses.values())


def load(samples: Mapping[str, tuple[Sample, Sample]]) -> Load | None:
    """The load of the pods that told their metrics; None where none did."""
    if not samples:
        return None
    before = _together([pair[0] for pair in samples.values()])
    after = _together([pair[1] for pair in samples.values()])
    seconds = max(after.time - before.time, 1e-9)

    def rate(metric: Metric) -> float:
        return grown(before, after, metric) / seconds

    return Load(
        seconds=after.time - before.time,
        pods=len(samples),
        running=round(after.total(metrics.REQUESTS_RUNNING.name)),
        waiting_before=round(before.total(metrics.REQUESTS_WAITING.name)),
        waiting=round(after.total(metrics.REQUESTS_WAITING.name)),
        swapped=round(after.total(metrics.REQUESTS_SWAPPED.name)),
        kv_usage=max(last.total(metrics.KV_CACHE_USAGE_RATIO.name) for _, last in samples.values()),
        kv_tokens=sum(_kv_tokens(last) for _, last in samples.values()),
        hit_rate=_share(
            grown(before, after, metrics.PREFIX_CACHE_HITS), grown(before, after, metrics.PREFIX_CACHE_QUERIES)
        ),
        hit_rate_ever=_share(
            after.total(metrics.PREFIX_CACHE_HITS.name), after.total(metrics.PREFIX_CACHE_QUERIES.name)
        ),
        prompt_tokens=rate(metrics.PROMPT_TOKENS),
        generated_tokens=rate(metrics.GENERATION_TOKENS),
        preemptions=rate(metrics.PREEMPTIONS),
        first_token=latency(before, after, metrics.TIME_TO_FIRST_TOKEN),
        between_tokens=latency(before, after, metrics.INTER_TOKEN_LATENCY),
        whole_answer=latency(before, after, metrics.REQUEST_DURATION),
        queue=latency(before, after, metrics.REQUEST_QUEUE),
        whole_answer_ever=latency(_NOTHING, after, metrics.REQUEST_DURATION),
        prompt_length=latency(_NOTHING, after, metrics.REQUEST_PROMPT_TOKENS),
        statuses=_statuses(before, after, seconds),
        failed=max(
            0.0,
            after.total(metrics.REQUESTS.name, status="error") - before.total(metrics.REQUESTS.name, status="error"),
        )
        / seconds,
        gpu=_average(after, metrics.GPU_UTILIZATION_RATIO),
    )


def duration(value: float | None) -> str:
    """A latency in words."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "longer than its histogram tells"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _together(looks: list[Sample]) -> Sample:
    """The looks at several pods as one: sums over labels are then sums over pods."""
    series: Series = {}
    for look in looks:
        for name, values in look.series.items():
            series.setdefault(name, []).extend(values)
    return Sample(sum(look.time for look in looks) / len(looks), "", series)


def _kv_tokens(look: Sample) -> int:
    size, blocks = (look.label(metrics.CACHE_CONFIG_INFO.name, key) for key in ("block_size", "num_gpu_blocks"))
    return int(size) * int(blocks) if size.isdecimal() and blocks.isdecimal() else 0


def _statuses(before: Sample, after: Sample, seconds: float) -> dict[str, float]:
    name = metrics.KEY_REQUESTS.name
    known = {labels.get("status", "") for labels, _ in after.series.get(name, ())}
    rates = {code: (after.total(name, status=code) - before.total(name, status=code)) / seconds for code in known}
    return {code: rate for code, rate in sorted(rates.items()) if rate > 0}


def _average(look: Sample, metric: Metric) -> float | None:
    values = [value for _, value in look.series.get(metric.name, ())]
    return sum(values) / len(values) if values else None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
