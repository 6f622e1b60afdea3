"""Grafana dashboard of a service, in a ConfigMap that Grafana's sidecar picks up by its label."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.kinds import CONFIG_MAP
from octavo_operator.resources import metadata
from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.metrics import Metric

_WIDTH = 8
_HEIGHT = 8
_COLUMNS = 24 // _WIDTH
_QUANTILES = (0.5, 0.95, 0.99)

Queries = list[tuple[str, str]]  # (legend, PromQL)


@dataclass(frozen=True)
class Panel:
    """`queries`: made for the PromQL selector of a service's pods, such as `{namespace="default",pod=~"..."}`."""

    title: str
    unit: str
    queries: Callable[[str], Queries]


def _sums(*gauges: tuple[str, Metric]) -> Callable[[str], Queries]:
    return lambda pods: [(legend, f"sum({gauge.name}{pods})") for legend, gauge in gauges]


def _rates(*counters: tuple[str, Metric]) -> Callable[[str], Queries]:
    return lambda pods: [(legend, f"sum(rate({counter.name}{pods}[$__rate_interval]))") for legend, counter in counters]


def _rates_by_label(counter: Metric) -> Callable[[str], Queries]:
    (label,) = counter.labels
    return lambda pods: [
        (f"{{{{{label}}}}}", f"sum by ({label}) (rate({counter.name}{pods}[$__rate_interval]))"),
    ]


def _most_by_pod(gauge: Metric) -> Callable[[str], Queries]:
    return lambda pods: [("{{pod}}", f"max by (pod) ({gauge.name}{pods})")]


def _quantiles(histogram: Metric) -> Callable[[str], Queries]:
    def queries(pods: str) -> Queries:
        rate = f"sum by (le) (rate({histogram.name}_bucket{pods}[$__rate_interval]))"
        return [(f"p{quantile * 100:.0f}", f"histogram_quantile({quantile}, {rate})") for quantile in _QUANTILES]

    return queries


PANELS = (
    Panel(
        "Requests in the engine",
        "short",
        _sums(("running", metrics.REQUESTS_RUNNING), ("waiting", metrics.REQUESTS_WAITING)),
    ),
    Panel("Answers per second, by reason", "reqps", _rates_by_label(metrics.REQUEST_SUCCESS)),
    Panel("Requests per second, by outcome", "reqps", _rates_by_label(metrics.REQUESTS)),
    Panel(
        "Tokens per second",
        "short",
        _rates(("prompt", metrics.PROMPT_TOKENS), ("generated", metrics.GENERATION_TOKENS)),
    ),
    Panel("KV cache in use", "percentunit", _most_by_pod(metrics.KV_CACHE_USAGE_RATIO)),
    Panel("Preemptions per second", "short", _rates_by_label(metrics.PREEMPTIONS)),
    Panel("Time to first token", "s", _quantiles(metrics.TIME_TO_FIRST_TOKEN)),
    Panel("Time between tokens", "s", _quantiles(metrics.INTER_TOKEN_LATENCY)),
    Panel("Request duration", "s", _quantiles(metrics.REQUEST_DURATION)),
)


def name(service_name: str) -> str:
    return f"{service_name}{CONFIG_MAP.suffix}"


def build(service: LLMService) -> dict[str, Any]:
    owned = metadata.owned(service, name(service.name))
    owned["labels"] |= {"grafana_dashboard": "1"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owned,
        "data": {f"octavo-{service.namespace}-{service.name}.json": json.dumps(dashboard(service))},
    }


def dashboard(service: LLMService) -> dict[str, Any]:
    """The dashboard in Grafana's JSON model."""
    pods = metadata.in_prometheus(service)
    return {
        "uid": f"octavo-{service.uid}"[:40],
        "title": f"Octavo / {service.namespace} / {service.name}",
        "tags": ["octavo"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_panel(panel, position, pods) for position, panel in enumerate(PANELS)],
    }


def _panel(panel: Panel, position: int, pods: str) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": position + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {
            "x": position % _COLUMNS * _WIDTH,
            "y": position // _COLUMNS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": expression, "legendFormat": legend}
            for index, (legend, expression) in enumerate(panel.queries(pods))
        ],
    }
