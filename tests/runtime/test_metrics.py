"""The table of metrics, and what the server makes of it."""

import subprocess
import sys
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from octavo_runtime import metrics
from octavo_runtime.messages import Load, Ready
from octavo_runtime.server.metrics_endpoint import ServerMetrics


def _server_metrics() -> ServerMetrics:
    load = Load(
        running=2,
        waiting=3,
        swapped=1,
        blocks_used=5,
        blocks_total=20,
        slots_wasted=10,
        recomputes=7,
        swaps=4,
        prefix_queries=100,
        prefix_hits=60,
    )
    ready = Ready(512, 1000, 16, 20, 0, "cpu", "float32", 1, 1.5)
    return ServerMetrics("m", SimpleNamespace(load=load, ready=ready))


def test_every_metric_of_the_table_is_served_with_its_type_and_labels():
    server = _server_metrics()
    server.first_token(0.1)
    families = {family.name: family for family in text_string_to_metric_families(server.text().decode())}
    for metric in metrics.METRICS:
        family = families[metric.name.removesuffix("_total") if metric.type == "counter" else metric.name]
        assert family.type == metric.type
        assert family.documentation == metric.help
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == {"model_name", *metric.labels}
            assert sample.labels["model_name"] == "m"


def test_names_follow_prometheus_conventions():
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    for metric in metrics.METRICS:
        assert metric.name.startswith("octavo_")
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert bool(metric.buckets) == (metric.type == "histogram")
        assert list(metric.buckets) == sorted(metric.buckets)
        assert metric.help.endswith(".")


def test_values():
    server = _server_metrics()
    server.started(11)
    server.generated(5)
    server.first_token(0.3)
    server.next_tokens(4, 0.2)
    server.answered("stop")
    server.ended("success", 0.5)
    server.ended("aborted", 0.1)
    server.rejected()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(server.text().decode())
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return samples[(name, *sorted({"model_name": "m", **labels}.items()))]

    assert value("octavo_requests_running") == 2
    assert value("octavo_requests_waiting") == 3
    assert value("octavo_kv_cache_usage_ratio") == 0.25
    assert value("octavo_preemptions_total", mode="recompute") == 7
    assert value("octavo_preemptions_total", mode="swap") == 4
    assert value("octavo_requests_swapped") == 1
    assert value("octavo_kv_cache_slots_wasted_ratio") == 10 / (5 * 16)
    assert value("octavo_prefix_cache_queries_total") == 100
    assert value("octavo_prefix_cache_hits_total") == 60
    assert value("octavo_cache_config_info", block_size="16", num_gpu_blocks="20") == 1
    assert value("octavo_model_load_seconds", phase="total") == 1.5
    assert value("octavo_prompt_tokens_total") == 11
    assert value("octavo_generation_tokens_total") == 5
    assert value("octavo_time_to_first_token_seconds_sum") == 0.3
    assert value("octavo_inter_token_latency_seconds_count") == 4
    assert value("octavo_inter_token_latency_seconds_bucket", le="0.05") == 4
    assert value("octavo_request_duration_seconds_count") == 1
    assert value("octavo_request_success_total", finished_reason="stop") == 1
    assert value("octavo_requests_total", status="success") == 1
    assert value("octavo_requests_total", status="aborted") == 1
    assert value("octavo_requests_total", status="error") == 0


def test_the_table_needs_nothing_but_the_standard_library():
    code = "import sys, octavo_runtime.metrics\nprint('prometheus_client' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
