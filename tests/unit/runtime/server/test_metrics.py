"""The table of metrics, and what the server makes of it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.messages import Load, Ready
from octavo_runtime.server.observe.metrics import ServerMetrics, Stages
from octavo_runtime.server.observe.token_rate import TokenRate


class NvmlError(Exception):
    pass


def _not_supported(_handle: str) -> None:
    raise NvmlError


TWO_GPUS = SimpleNamespace(
    NVMLError=NvmlError,
    nvmlInit=lambda: None,
    nvmlDeviceGetCount=lambda: 2,
    nvmlDeviceGetHandleByIndex=lambda index: f"handle {index}",
    nvmlDeviceGetUUID=lambda handle: f"GPU-{handle[-1]}",
    nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=1 << 30),
    nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=75),
)


@pytest.fixture
def gpus(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", TWO_GPUS)


def _server_metrics(*, vllm_names: bool = False) -> ServerMetrics:
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
    ready = Ready(512, 1000, 16, 20, 0, "cpu", "float32", 1, 1.5, 64)
    return ServerMetrics("m", SimpleNamespace(load=load, ready=ready), vllm_names=vllm_names)


def _samples(server: ServerMetrics) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(server.text().decode())
        for sample in family.samples
    }


def test_every_metric_of_the_table_is_served_with_its_type_and_labels(gpus):
    server = _server_metrics()
    server.gpus.find()
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
    server.succeeded(Stages(queue=0.25, prefill=0.5, decode=2.0, prompt_tokens=11, generation_tokens=5))
    with server.startup("locate"):
        pass
    samples = _samples(server)

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
    assert value("octavo_request_queue_seconds_sum") == 0.25
    assert value("octavo_request_prefill_seconds_sum") == 0.5
    assert value("octavo_request_decode_seconds_sum") == 2.0
    assert value("octavo_request_inference_seconds_sum") == 2.5
    assert value("octavo_request_prompt_tokens_bucket", le="10.0") == 0
    assert value("octavo_request_prompt_tokens_bucket", le="20.0") == 1
    assert value("octavo_request_generation_tokens_sum") == 5
    assert value("octavo_tokens_per_second") == 0.5
    assert 0 <= value("octavo_startup_seconds", phase="locate") < 1


def test_nothing_is_served_that_the_table_does_not_name(gpus):
    server = _server_metrics(vllm_names=True)
    server.gpus.find()
    server.first_token(0.1)
    known = {name for metric in metrics.METRICS for name in (metric.name, metric.vllm)}
    for family in text_string_to_metric_families(server.text().decode()):
        assert family.name in known or f"{family.name}_total" in known


def test_vllms_names_have_the_same_values():
    server = _server_metrics(vllm_names=True)
    server.first_token(0.3)
    server.answered("stop")
    samples = _samples(server)
    pairs = 0
    for metric in metrics.METRICS:
        if not metric.vllm or metric.vllm_labels is not None:
            continue
        for (name, *labels), value in samples.items():
            if name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") == metric.name:
                assert samples[(metric.vllm + name.removeprefix(metric.name), *labels)] == value
                pairs += 1
    assert pairs > 100
    assert samples["vllm:num_preemptions_total", ("model_name", "m")] == 7 + 4
    assert samples["vllm:num_requests_running", ("model_name", "m")] == 2
    assert samples["vllm:request_success_total", ("finished_reason", "stop"), ("model_name", "m")] == 1
    assert "vllm:" not in _server_metrics().text().decode()


def test_gpus(gpus, monkeypatch):
    server = _server_metrics()
    server.gpus.find()
    labels = ("gpu", "1"), ("model_name", "m"), ("uuid", "GPU-1")
    assert _samples(server)["octavo_gpu_utilization_ratio", *labels] == 0.75
    assert _samples(server)["octavo_gpu_memory_used_bytes", *labels] == 1 << 30
    monkeypatch.setattr(TWO_GPUS, "nvmlDeviceGetUtilizationRates", _not_supported)
    assert ("octavo_gpu_utilization_ratio", *labels) not in _samples(server)
    assert _samples(server)["octavo_gpu_memory_used_bytes", *labels] == 1 << 30


def test_a_machine_without_gpus_serves_no_gpu_metrics(gpus, monkeypatch):
    monkeypatch.setattr(TWO_GPUS, "nvmlDeviceGetCount", lambda: _not_supported(""))
    server = _server_metrics()
    server.gpus.find()
    assert "octavo_gpu" not in server.text().decode()


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 3000)), max_size=50), st.integers(0, 3000))
def test_the_token_rate_is_that_of_the_last_ten_seconds(gaps, then):
    rate, now, came = TokenRate(), 0.0, []
    for tokens, gap in gaps:
        now += gap / 100
        rate.add(tokens, now)
        came.append((now, tokens))
    now += then / 100
    least = sum(tokens for when, tokens in came if when > now - 9.8) / 10
    most = sum(tokens for when, tokens in came if when > now - 10.2) / 10
    assert least <= rate.per_second(now) <= most


def test_the_table_needs_nothing_but_the_standard_library():
    code = (
        "import sys, octavo_runtime.protocol.metrics\n"
        "print('prometheus_client' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
