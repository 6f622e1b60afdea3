"""Every metric that Octavo exposes: name, type, labels, help, buckets. Free of prometheus_client: the operator reads
this table for dashboards and alerts. Units are in the names."""

from dataclasses import dataclass
from typing import Literal

_LATENCY_BUCKETS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_STAGE_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0)
_LENGTH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5)


@dataclass(frozen=True)
class Metric:
    """One row of the table. `labels` come after model_name, which every engine metric has; `buckets`: upper bounds of a
    histogram's buckets, in the unit of the name. `vllm`: the name by which vLLM knows the same values; where vLLM has
    fewer labels, `vllm_labels` are those that are left, and the values are summed up."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    vllm: str = ""
    vllm_labels: tuple[str, ...] | None = None


REQUESTS_RUNNING = Metric(
    "octavo_requests_running",
    "gauge",
    "Requests that the engine computes in its steps.",
    vllm="vllm:num_requests_running",
)
REQUESTS_WAITING = Metric(
    "octavo_requests_waiting",
    "gauge",
    "Requests that wait for a place in the engine's steps.",
    vllm="vllm:num_requests_waiting",
)
REQUESTS_SWAPPED = Metric(
    "octavo_requests_swapped", "gauge", "Answers in the making whose KV blocks lie in host memory for now."
)
KV_CACHE_USAGE_RATIO = Metric(
    "octavo_kv_cache_usage_ratio",
    "gauge",
    "Share of the KV cache's blocks that requests hold, from 0 to 1.",
    vllm="vllm:kv_cache_usage_perc",
)
KV_CACHE_SLOTS_WASTED_RATIO = Metric(
    "octavo_kv_cache_slots_wasted_ratio",
    "gauge",
    "Share of the slots in held KV blocks that hold no token, from 0 to 1.",
)
CACHE_CONFIG_INFO = Metric(
    "octavo_cache_config_info",
    "gauge",
    "Always 1; the labels are the tokens of a KV block and the number of blocks of all layers.",
    ("block_size", "num_gpu_blocks"),
    vllm="vllm:cache_config_info",
)
PREFIX_CACHE_QUERIES = Metric(
    "octavo_prefix_cache_queries_total",
    "counter",
    "Prompt tokens looked up in the prefix cache.",
    vllm="vllm:prefix_cache_queries_total",
)
PREFIX_CACHE_HITS = Metric(
    "octavo_prefix_cache_hits_total",
    "counter",
    "Prompt tokens found in the prefix cache.",
    vllm="vllm:prefix_cache_hits_total",
)
SPECULATIVE_RUNS = Metric(
    "octavo_speculative_runs_total",
    "counter",
    "Runs of tokens that were guessed and checked in one step.",
    vllm="vllm:spec_decode_num_drafts_total",
)
SPECULATIVE_TOKENS = Metric(
    "octavo_speculative_tokens_total",
    "counter",
    "Tokens that were guessed.",
    vllm="vllm:spec_decode_num_draft_tokens_total",
)
SPECULATIVE_TOKENS_ACCEPTED = Metric(
    "octavo_speculative_tokens_accepted_total",
    "counter",
    "Guessed tokens that were right.",
    vllm="vllm:spec_decode_num_accepted_tokens_total",
)
PROMPT_TOKENS = Metric(
    "octavo_prompt_tokens_total", "counter", "Prompt tokens of accepted requests.", vllm="vllm:prompt_tokens_total"
)
GENERATION_TOKENS = Metric(
    "octavo_generation_tokens_total", "counter", "Tokens generated.", vllm="vllm:generation_tokens_total"
)
TOKENS_PER_SECOND = Metric("octavo_tokens_per_second", "gauge", "Tokens generated a second, over the last ten seconds.")
REQUEST_SUCCESS = Metric(
    "octavo_request_success_total",
    "counter",
    "Answers that ended well, by reason (stop, length).",
    ("finished_reason",),
    vllm="vllm:request_success_total",
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
    vllm="vllm:time_to_first_token_seconds",
)
INTER_TOKEN_LATENCY = Metric(
    "octavo_inter_token_latency_seconds",
    "histogram",
    "Between one token of an answer and the next.",
    buckets=_TOKEN_BUCKETS,
    vllm="vllm:inter_token_latency_seconds",
)
REQUEST_DURATION = Metric(
    "octavo_request_duration_seconds",
    "histogram",
    "From the arrival of a request to the end of its answer.",
    buckets=_LATENCY_BUCKETS,
    vllm="vllm:e2e_request_latency_seconds",
)
REQUEST_QUEUE = Metric(
    "octavo_request_queue_seconds",
    "histogram",
    "From the arrival of a request in the engine to its first step.",
    buckets=_STAGE_BUCKETS,
    vllm="vllm:request_queue_time_seconds",
)
REQUEST_PREFILL = Metric(
    "octavo_request_prefill_seconds",
    "histogram",
    "From a request's first step to its first token.",
    buckets=_STAGE_BUCKETS,
    vllm="vllm:request_prefill_time_seconds",
)
REQUEST_DECODE = Metric(
    "octavo_request_decode_seconds",
    "histogram",
    "From a request's first token to its last.",
    buckets=_STAGE_BUCKETS,
    vllm="vllm:request_decode_time_seconds",
)
REQUEST_INFERENCE = Metric(
    "octavo_request_inference_seconds",
    "histogram",
    "From a request's first step to its last token.",
    buckets=_STAGE_BUCKETS,
    vllm="vllm:request_inference_time_seconds",
)
REQUEST_PROMPT_TOKENS = Metric(
    "octavo_request_prompt_tokens",
    "histogram",
    "Prompt tokens of a request that succeeded.",
    buckets=_LENGTH_BUCKETS,
    vllm="vllm:request_prompt_tokens",
)
REQUEST_GENERATION_TOKENS = Metric(
    "octavo_request_generation_tokens",
    "histogram",
    "Tokens generated for a request that succeeded, all its answers together.",
    buckets=_LENGTH_BUCKETS,
    vllm="vllm:request_generation_tokens",
)
KEY_REQUESTS = Metric(
    "octavo_key_requests_total",
    "counter",
    "POST requests by the name of their API key (anonymous where none are asked for) and HTTP status (499: the client "
    "went away first), and with an empty name all requests that no key came with.",
    ("key", "status"),
)
KEY_TOKENS = Metric(
    "octavo_key_tokens_total",
    "counter",
    "Tokens by the name of their API key and kind (prompt, generation).",
    ("key", "kind"),
)
PREEMPTIONS = Metric(
    "octavo_preemptions_total",
    "counter",
    "Times that a running request gave its KV blocks to another, by how it resumes (recompute, swap).",
    ("mode",),
    vllm="vllm:num_preemptions_total",
    vllm_labels=(),
)
GPU_UTILIZATION_RATIO = Metric(
    "octavo_gpu_utilization_ratio",
    "gauge",
    "Share of the time in which a GPU was at work of late, from 0 to 1.",
    ("gpu", "uuid"),
)
GPU_MEMORY_USED_BYTES = Metric(
    "octavo_gpu_memory_used_bytes", "gauge", "Memory of a GPU in use, by whomever.", ("gpu", "uuid")
)
MODEL_LOAD_SECONDS = Metric(
    "octavo_model_load_seconds", "gauge", "How long the engine took to load the model.", ("phase",)
)
STARTUP_SECONDS = Metric(
    "octavo_startup_seconds",
    "gauge",
    "How long the start took, by phase: locate (find or download the model), tokenizer and engine (both at once), "
    "warm_up, and total.",
    ("phase",),
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
    SPECULATIVE_RUNS,
    SPECULATIVE_TOKENS,
    SPECULATIVE_TOKENS_ACCEPTED,
    PROMPT_TOKENS,
    GENERATION_TOKENS,
    TOKENS_PER_SECOND,
    REQUEST_SUCCESS,
    REQUESTS,
    TIME_TO_FIRST_TOKEN,
    INTER_TOKEN_LATENCY,
    REQUEST_DURATION,
    REQUEST_QUEUE,
    REQUEST_PREFILL,
    REQUEST_DECODE,
    REQUEST_INFERENCE,
    REQUEST_PROMPT_TOKENS,
    REQUEST_GENERATION_TOKENS,
    KEY_REQUESTS,
    KEY_TOKENS,
    PREEMPTIONS,
    GPU_UTILIZATION_RATIO,
    GPU_MEMORY_USED_BYTES,
    MODEL_LOAD_SECONDS,
    STARTUP_SECONDS,
)

OPERATOR_RECONCILE_SECONDS = Metric(
    "octavo_operator_reconcile_seconds",
    "histogram",
    "How long the operator looked at one LLMService, by result: settled, blocked (it waits for something that is not "
    "watched), gone, elsewhere (another installation serves its namespace), stale (another write came first), error.",
    ("result",),
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
"""The operator's own: it has no model, and so no model_name."""

# What the operator tells of the LLMServices that it serves. `namespace` is theirs: a scrape must honour these labels.
_LLMSERVICE = ("namespace", "llmservice")
LLMSERVICE_READY = Metric(
    "octavo_llmservice_ready", "gauge", "1 where the condition Ready of the LLMService is True, else 0.", _LLMSERVICE
)
LLMSERVICE_REPLICAS = Metric("octavo_llmservice_replicas", "gauge", "Pods wanted of an LLMService.", _LLMSERVICE)
LLMSERVICE_READY_REPLICAS = Metric(
    "octavo_llmservice_ready_replicas", "gauge", "Pods of an LLMService that answer requests.", _LLMSERVICE
)
LLMSERVICE_STARTING = Metric(
    "octavo_llmservice_starting",
    "gauge",
    "1 while the first pods of an LLMService are on their way and nothing says that they will not answer, else 0.",
    _LLMSERVICE,
)
LLMSERVICE_POD_RESTARTS = Metric(
    "octavo_llmservice_pod_restarts_total",
    "counter",
    "Times that the engine of a pod was started anew.",
    (*_LLMSERVICE, "pod"),
)
LLMSERVICE_SLO_RATIO = Metric(
    "octavo_llmservice_slo_ratio",
    "gauge",
    "Share that is to be good, from 0 to 1, by the objective in spec.slo (ttftP99, itlP99, availability); le is the "
    "bound, in seconds, as the label of the histogram's bucket has it.",
    (*_LLMSERVICE, "slo", "le"),
)

LLMSERVICE_METRICS = (
    LLMSERVICE_READY,
    LLMSERVICE_REPLICAS,
    LLMSERVICE_READY_REPLICAS,
    LLMSERVICE_STARTING,
    LLMSERVICE_POD_RESTARTS,
    LLMSERVICE_SLO_RATIO,
)
