"""What is read of a pod's /metrics."""

import math

import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from octavo_operator.api.targets import TARGETS
from octavo_operator.scraping.exposition import read
from octavo_runtime.protocol import metrics


def test_every_target_is_read_from_what_an_engine_tells() -> None:
    registry = CollectorRegistry()
    for metric in {target.metric for target in TARGETS}:
        labels = ("model_name", *metric.labels)
        values = ["x" for _ in labels]
        if metric.type == "gauge":
            Gauge(metric.name, metric.help, labels, registry=registry).labels(*values).set(0.5)
        else:
            made = Histogram(metric.name, metric.help, labels, registry=registry, buckets=metric.buckets)
            made.labels(*values).observe(1.5)
    found = read(generate_latest(registry).decode(), TARGETS)
    for target in TARGETS:
        if target.quantile is None:
            assert found.gauges[target.metric.name] == [0.5]
        else:
            assert found.histograms[target.metric.name][math.inf] == 1
            assert found.histograms[target.metric.name][1.0] == 0


def test_what_is_not_asked_for_is_not_read() -> None:
    found = read("octavo_requests_running 3\nother 4\noctavo_requests_running_more 5\n", TARGETS)
    assert found.gauges == {metrics.REQUESTS_RUNNING.name: [3.0]}
    assert found.histograms == {}


def test_values_that_are_no_numbers_are_left_out() -> None:
    assert read("octavo_requests_running NaN\noctavo_requests_waiting +Inf\n", TARGETS).gauges == {}


def test_more_lines_than_an_engine_says_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2001 lines .* at most 2000"):
        read("octavo_requests_running 1\n" * 2001, TARGETS)


def test_what_is_no_metrics_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        read("octavo_requests_running{ what\n", TARGETS)
