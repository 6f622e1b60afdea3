"""GET /metrics: the table of octavo_runtime.metrics, filled by the server and read by Prometheus."""

from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.registry import Collector

from octavo_runtime import metrics
from octavo_runtime.engine_client import EngineClient

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """The metrics of one server. What the engine reports is read from `engine` when Prometheus asks."""

    def __init__(self, model_name: str, engine: EngineClient) -> None:
        self._model_name = model_name
        self._registry = CollectorRegistry()
        self._registry.register(_EngineLoad(model_name, engine))
        self._prompt_tokens = self._counter(metrics.PROMPT_TOKENS).labels(model_name)
        self._generation_tokens = self._counter(metrics.GENERATION_TOKENS).labels(model_name)
        self._first_token = self._histogram(metrics.TIME_TO_FIRST_TOKEN)
        self._inter_token = self._histogram(metrics.INTER_TOKEN_LATENCY)
        self._duration = self._histogram(metrics.REQUEST_DURATION)
        self._success = self._counter(metrics.REQUEST_SUCCESS)
        self._requests = self._counter(metrics.REQUESTS)
        for reason in ("stop", "length"):
            self._success.labels(model_name, reason)
        for status in ("success", "error", "aborted", "rejected"):
            self._requests.labels(model_name, status)

    def started(self, prompt_tokens: int) -> None:
        """A request was accepted."""
        self._prompt_tokens.inc(prompt_tokens)

    def generated(self, tokens: int) -> None:
        """New tokens of any answer."""
        self._generation_tokens.inc(tokens)

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

    def rejected(self) -> None:
        """A request was refused as invalid before it was accepted."""
        self._requests.labels(self._model_name, "rejected").inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, metric: metrics.Metric) -> Counter:
        return Counter(metric.name, metric.help, ("model_name", *metric.labels), registry=self._registry)

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
        preemptions = self._family(metrics.PREEMPTIONS, load.recomputes, "recompute")
        preemptions.add_metric((self._model_name, "swap"), load.swaps)
        yield preemptions
        if ready is not None:
            held = load.blocks_used * ready.block_size
            yield self._family(metrics.KV_CACHE_SLOTS_WASTED_RATIO, load.slots_wasted / max(held, 1))
            yield self._family(metrics.CACHE_CONFIG_INFO, 1, str(ready.block_size), str(ready.num_blocks))
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
