"""GET /metrics: the table of octavo_runtime.protocol.metrics, filled by the server and read by Prometheus."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from octavo_runtime.engine_process.client import EngineClient
from octavo_runtime.protocol import metrics
from octavo_runtime.server.observe.gpu_metrics import GpuMetrics
from octavo_runtime.server.observe.token_rate import TokenRate
from octavo_runtime.server.observe.vllm_metric_names import VllmNames

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's name, read when it is imported
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Stages:
    """How a request that succeeded spent its time, in seconds: in the engine's queue, then until its first token, then
    until its last. Tokens: of its prompt, and generated for all its answers."""

    queue: float
    prefill: float
    decode: float
    prompt_tokens: int
    generation_tokens: int


class ServerMetrics:
    """The metrics of one server. What the engine reports is read from `engine` when Prometheus asks. vllm_names: serve
    them by vLLM's names too."""

    def __init__(self, model_name: str, engine: EngineClient, *, vllm_names: bool = False) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # they would double the counters, by names that the table does not know
        self._model_name = model_name
        self._registry = CollectorRegistry()
        everything = CollectorRegistry()
        self._served: Collector = VllmNames(everything) if vllm_names else everything
        # Where several API processes make one server, what they count lies in files, and each tells it of all.
        everything.register(MultiProcessCollector(None) if METRICS_FOLDER in os.environ else self._registry)  # type: ignore[no-untyped-call]
        everything.register(_EngineLoad(model_name, engine))
        self.gpus = GpuMetrics(model_name)
        everything.register(self.gpus)
        self._rate = TokenRate()
        self._tokens_per_second = self._gauge(metrics.TOKENS_PER_SECOND, "livesum").labels(model_name)
        self._startup = self._gauge(metrics.STARTUP_SECONDS, "livemax")
        self._prompt_tokens = self._counter(metrics.PROMPT_TOKENS).labels(model_name)
        self._generation_tokens = self._counter(metrics.GENERATION_TOKENS).labels(model_name)
        self._first_token = self._histogram(metrics.TIME_TO_FIRST_TOKEN)
        self._inter_token = self._histogram(metrics.INTER_TOKEN_LATENCY)
        self._duration = self._histogram(metrics.REQUEST_DURATION)
        self._queue = self._histogram(metrics.REQUEST_QUEUE)
        self._prefill = self._histogram(metrics.REQUEST_PREFILL)
        self._decode = self._histogram(metrics.REQUEST_DECODE)
        self._inference = self._histogram(metrics.REQUEST_INFERENCE)
        self._request_prompt_tokens = self._histogram(metrics.REQUEST_PROMPT_TOKENS)
        self._request_generation_tokens = self._histogram(metrics.REQUEST_GENERATION_TOKENS)
        self._success = self._counter(metrics.REQUEST_SUCCESS)
        self._requests = self._counter(metrics.REQUESTS)
        self._key_requests = self._counter(metrics.KEY_REQUESTS)
        self._key_tokens = self._counter(metrics.KEY_TOKENS)
        for reason in ("stop", "length"):
            self._success.labels(model_name, reason)
        for status in ("success", "error", "aborted", "rejected"):
            self._requests.labels(model_name, status)

    @contextmanager
    def startup(self, phase: str) -> Iterator[None]:
        """Around a phase of the server's start."""
        began = time.monotonic()
        yield
        self._startup.labels(self._model_name, phase).set(time.monotonic() - began)

    def started(self, prompt_tokens: int) -> None:
        """A request was accepted."""
        self._prompt_tokens.inc(prompt_tokens)

    def generated(self, tokens: int) -> None:
        """New tokens of any answer."""
        self._generation_tokens.inc(tokens)
        self._rate.add(tokens, time.monotonic())

    def first_token(self, seconds: float) -> None:
        """The first token of a request came, `seconds` after its arrival."""
        self._first_token.observe(seconds)

    def next_tokens(self, count: int, seconds: float) -> None:
        """Further tokens of an answer came, `seconds` after those before them."""
        for _ in range(count):
            self._inter_token.observe(seconds / count)

    def answered(self, finish_reason: str) -> None:
        """An answer is complete."""
        self._success.labels(self._model_name, finish_reason).inc()

    def ended(self, status: str, seconds: float) -> None:
        """A request that was accepted ended, `seconds` after its arrival; status: success, error, aborted, rejected."""
        self._requests.labels(self._model_name, status).inc()
        if status == "success":
            self._duration.observe(seconds)

    def succeeded(self, stages: Stages) -> None:
        """All answers to a request are complete."""
        self._queue.observe(stages.queue)
        self._prefill.observe(stages.prefill)
        self._decode.observe(stages.decode)
        self._inference.observe(stages.prefill + stages.decode)
        self._request_prompt_tokens.observe(stages.prompt_tokens)
        self._request_generation_tokens.observe(stages.generation_tokens)

    def rejected(self) -> None:
        """A request was refused as invalid before it was accepted."""
        self._requests.labels(self._model_name, "rejected").inc()

    def key_request(self, key: str, status: int) -> None:
        """A request by an API key, or by an unknown one (""), was answered with an HTTP status."""
        self._key_requests.labels(self._model_name, key, str(status)).inc()

    def key_tokens(self, key: str, kind: Literal["prompt", "generation"]) -> Callable[[float], None]:
        """Counts the tokens of an API key."""
        return self._key_tokens.labels(self._model_name, key, kind).inc

    def refresh(self) -> None:
        """Works out what changes with time alone. Called twice a second, for the other API processes to read."""
        self._tokens_per_second.set(self._rate.per_second(time.monotonic()))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        self.refresh()
        return generate_latest(self._served)

    def _counter(self, metric: metrics.Metric) -> Counter:
        return Counter(metric.name, metric.help, ("model_name", *metric.labels), registry=self._registry)

    def _gauge(self, metric: metrics.Metric, over_processes: Literal["livesum", "livemax"]) -> Gauge:
        return Gauge(
            metric.name,
            metric.help,
            ("model_name", *metric.labels),
            registry=self._registry,
            multiprocess_mode=over_processes,
        )

    def _histogram(self, metric: metrics.Metric) -> Histogram:
        histogram = Histogram(
            metric.name, metric.help, ("model_name", *metric.labels), registry=self._registry, buckets=metric.buckets
        )
        return histogram.labels(self._model_name)


class _EngineLoad(Collector):
    """What the engine last reported."""

    def __init__(self, model_name: str, engine: EngineClient) -> None:
        self._model_name = model_name
        self._engine = engine

    def collect(self) -> Iterator[MetricFamily]:
        load, ready = self._engine.load, self._engine.ready
        yield self._family(metrics.REQUESTS_RUNNING, load.running)
        yield self._family(metrics.REQUESTS_WAITING, load.waiting)
        yield self._family(metrics.REQUESTS_SWAPPED, load.swapped)
        yield self._family(metrics.KV_CACHE_USAGE_RATIO, load.blocks_used / max(load.blocks_total, 1))
        yield self._family(metrics.PREFIX_CACHE_QUERIES, load.prefix_queries)
        yield self._family(metrics.PREFIX_CACHE_HITS, load.prefix_hits)
        yield self._family(metrics.SPECULATIVE_RUNS, load.guess_runs)
        yield self._family(metrics.SPECULATIVE_TOKENS, load.guessed)
        yield self._family(metrics.SPECULATIVE_TOKENS_ACCEPTED, load.guessed_right)
        preemptions = self._family(metrics.PREEMPTIONS, load.recomputes, "recompute")
        preemptions.add_metric((self._model_name, "swap"), load.swaps)
        yield preemptions
        if ready is not None:
            held = load.blocks_used * ready.block_size
            yield self._family(metrics.KV_CACHE_SLOTS_WASTED_RATIO, load.slots_wasted / max(held, 1))
            yield self._family(metrics.CACHE_CONFIG_INFO, 1, str(ready.block_size), str(ready.num_whole_blocks))
            yield self._family(metrics.MODEL_LOAD_SECONDS, ready.load_seconds, "total")

    def _family(self, metric: metrics.Metric, value: float, *labels: str) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
        family = kind(metric.name, metric.help, labels=("model_name", *metric.labels))
        family.add_metric((self._model_name, *labels), value)
        return family


def router(server_metrics: ServerMetrics) -> APIRouter:
    """The route that Prometheus scrapes."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def metrics_text() -> Response:
        return Response(server_metrics.text(), media_type=_CONTENT_TYPE)

    return routes
