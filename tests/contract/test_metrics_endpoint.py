"""GET /metrics of a running server."""

import socket

import httpx
import pytest
from patience import PATIENCE, eventually
from prometheus_client.parser import text_string_to_metric_families

BODY = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 5, "ignore_eos": True}
STAGES = ("queue", "prefill", "decode", "inference")


def samples(server) -> dict[tuple, float]:
    text = httpx.get(f"{server.url}/metrics", trust_env=False, timeout=PATIENCE).text
    return {
        (sample.name, *sorted(item for item in sample.labels.items() if item[0] != "model_name")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ask(server, **changes) -> None:
    httpx.post(
        f"{server.url}/v1/completions", json=BODY | changes, timeout=PATIENCE, trust_env=False
    ).raise_for_status()


def test_prometheus_can_read_it(scripted):
    response = httpx.get(f"{scripted.url}/metrics", trust_env=False, timeout=PATIENCE)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(response.text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.type in ("counter", "gauge", "histogram") for family in families)
    assert "vllm:" not in response.text


def test_the_stages_of_a_request_add_up(server):
    before = samples(server)
    ask(server)
    after = samples(server)

    def grown(name: str) -> float:
        return after[(name,)] - before[(name,)]

    for stage in STAGES:
        assert grown(f"octavo_request_{stage}_seconds_count") == 1
    queue, prefill, decode, inference = (grown(f"octavo_request_{stage}_seconds_sum") for stage in STAGES)
    first, duration = grown("octavo_time_to_first_token_seconds_sum"), grown("octavo_request_duration_seconds_sum")
    assert queue >= 0
    assert queue + prefill == pytest.approx(first, abs=1e-6)
    assert prefill + decode == pytest.approx(inference, abs=1e-6)
    assert decode == pytest.approx(grown("octavo_inter_token_latency_seconds_sum"), abs=1e-6)
    assert first + decode <= duration
    assert grown("octavo_request_generation_tokens_sum") == 5
    assert grown("octavo_request_prompt_tokens_sum") == 4


def test_the_rate_is_of_the_last_ten_seconds(server):
    def rate() -> float:
        ask(server)
        return samples(server)[("octavo_tokens_per_second",)]

    eventually(lambda: rate() >= 0.5, "five tokens within ten seconds, which a busy machine may need several times for")


def test_a_request_that_failed_has_no_stages(scripted):
    before = samples(scripted)
    httpx.post(
        f"{scripted.url}/v1/completions", json=BODY | {"prompt": "[error deadline]"}, trust_env=False, timeout=PATIENCE
    )
    after = samples(scripted)
    assert (
        after[("octavo_requests_total", ("status", "error"))] > before[("octavo_requests_total", ("status", "error"))]
    )
    assert after[("octavo_request_queue_seconds_count",)] == before[("octavo_request_queue_seconds_count",)]


def test_several_prompts_are_several_requests(scripted):
    before = samples(scripted)
    ask(scripted, prompt=["a", "b", "c"], n=2)
    after = samples(scripted)
    grown = {name[0]: after[name] - before[name] for name in after if len(name) == 1}
    assert grown["octavo_request_prompt_tokens_count"] == 3
    assert grown["octavo_request_generation_tokens_sum"] == 30


def test_the_phases_of_the_start(server):
    phases = {name[1][1]: value for name, value in samples(server).items() if name[0] == "octavo_startup_seconds"}
    assert set(phases) == {"locate", "tokenizer", "engine", "warm_up", "total"}
    assert phases["total"] >= phases["locate"] + max(phases["tokenizer"], phases["engine"]) + phases["warm_up"] - 0.01


def test_vllms_names(start_scripted):
    server = start_scripted("--metrics-aliases", "vllm")
    server.wait_ready()
    ask(server)
    got = samples(server)
    for ours, theirs in (
        ("octavo_requests_running", "vllm:num_requests_running"),
        ("octavo_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"),
        ("octavo_generation_tokens_total", "vllm:generation_tokens_total"),
        ("octavo_request_duration_seconds_count", "vllm:e2e_request_latency_seconds_count"),
        ("octavo_request_queue_seconds_sum", "vllm:request_queue_time_seconds_sum"),
    ):
        assert got[(theirs,)] == got[(ours,)]
    assert got["vllm:request_success_total", ("finished_reason", "length")] == 1


def test_metrics_on_a_port_of_their_own(start_scripted):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start_scripted("--metrics-port", str(port))
    elsewhere = f"http://127.0.0.1:{port}"

    def status(url: str) -> int:
        return httpx.get(url, trust_env=False, timeout=PATIENCE).status_code

    assert "octavo_requests_running" in httpx.get(f"{elsewhere}/metrics", trust_env=False, timeout=PATIENCE).text
    assert [status(f"{elsewhere}{path}") for path in ("/v1/models", "/health", "/")] == [404] * 3
    refused = httpx.get(f"{server.url}/metrics", trust_env=False, timeout=PATIENCE)
    assert refused.status_code == 404
    assert refused.json()["error"]["message"] == f"/metrics: is served on port {port}"
    assert status(f"{server.url}/v1/models") == 200


def test_several_api_processes_share_the_port_of_metrics(start_scripted):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start_scripted("--metrics-port", str(port), "--api-workers", "2")
    server.wait_ready()
    for _ in range(8):
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=PATIENCE).status_code == 200
        assert httpx.get(f"{server.url}/metrics", trust_env=False, timeout=PATIENCE).status_code == 404
