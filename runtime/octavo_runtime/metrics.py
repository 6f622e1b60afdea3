"""Every metric that Octavo exposes: name, type, labels, help, buckets. Free of prometheus_client: the operator reads
this table for dashboards and alerts. Units are in the names."""

from dataclasses import dataclass
from typing import Literal

_LATENCY_BUCKETS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Metric:
    """One row of the table. `labels` come after model_name, which every engine metric has; `buckets`: upper bounds of a
    histogram's buckets, in the unit of the name."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


REQUESTS_RUNNING = Metric("octavo_requests_running", "gauge", "Requests that the engine computes in its steps.")
REQUESTS_WAITING = Metric("octavo_requests_waiting", "gauge", "Requests that wait for a place in the engine's steps.")
REQUESTS_SWAPPED = Metric(
    "octavo_requests_swapped", "gauge", "Answers in the making whose KV blocks lie in host memory for now."
)
KV_CACHE_USAGE_RATIO = Metric(
    "octavo_kv_cache_usage_ratio", "gauge", "Share of the KV cache's blocks that requests hold, from 0 to 1."
)
KV_CACHE_SLOTS_WASTED_RATIO = Metric(
    "octavo_kv_cache_slots_wasted_ratio",
    "gauge",
    "Share of the slots in held KV blocks that hold no token, from 0 to 1.",
)
CACHE_CONFIG_INFO = Metric(
    "octavo_cache_config_info",
    "gauge",
    "Always 1; the labels are the tokens of a KV block and the number of blocks.",
    ("block_size", "num_gpu_blocks"),
)
PREFIX_CACHE_QUERIES = Metric(
    "octavo_prefix_cache_queries_total", "counter", "Prompt tokens looked up in the prefix cache."
)
PREFIX_CACHE_HITS = Metric("octavo_prefix_cache_hits_total", "counter", "Prompt tokens found in the prefix cache.")
PROMPT_TOKENS = Metric("octavo_prompt_tokens_total", "counter", "Prompt tokens of accepted requests.")
GENERATION_TOKENS = Metric("octavo_generation_tokens_total", "counter", "Tokens generated.")
REQUEST_SUCCESS = Metric(
    "octavo_request_success_total",
    "counter",
    "Answers that ended well, by reason (stop, length).",
    ("finished_reason",),
)
REQUESTS = Metric(
    "octavo_requests_total",
    "counter",
    "Requests for an answer, by outcome (success, error, aborted by the client, rejected as invalid).",
    ("status",),
)
TIME_TO_FIRST_TOKEN = Metric(
    "octavo_time_to_first_token_seconds",
    "histogram",
    "From the arrival of a request to its first token.",
    buckets=_FIRST_TOKEN_BUCKETS,
)
INTER_TOKEN_LATENCY = Metric(
    "octavo_inter_token_latency_seconds",
    "histogram",
    "Between one token of an answer and the next.",
    buckets=_TOKEN_BUCKETS,
)
REQUEST_DURATION = Metric(
    "octavo_request_duration_seconds",
    "histogram",
    "From the arrival of a request to the end of its answer.",
    buckets=_LATENCY_BUCKETS,
)
PREEMPTIONS = Metric(
    "octavo_preemptions_total",
    "counter",
    "Times that a running request gave its KV blocks to another, by how it resumes (recompute, swap).",
    ("mode",),
)
MODEL_LOAD_SECONDS = Metric(
    "octavo_model_load_seconds", "gauge", "How long the engine took to load the model.", ("phase",)
)

METRICS = (
    REQUESTS_RUNNING,
    REQUESTS_WAITING,
    REQUESTS_SWAPPED,
    KV_CACHE_USAGE_RATIO,
    KV_CACHE_SLOTS_WASTED_RATIO,
    CACHE_CONFIG_INFO,
    PREFIX_CACHE_QUERIES,
    PREFIX_CACHE_HITS,
    PROMPT_TOKENS,
    GENERATION_TOKENS,
    REQUEST_SUCCESS,
    REQUESTS,
    TIME_TO_FIRST_TOKEN,
    INTER_TOKEN_LATENCY,
    REQUEST_DURATION,
    PREEMPTIONS,
    MODEL_LOAD_SECONDS,
)
