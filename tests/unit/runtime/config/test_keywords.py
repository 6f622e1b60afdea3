"""vLLM's names and values in Python."""

import logging

import pytest
import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.keywords import engine_config

OVERRIDES = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"swap_space": 4}, {"swap_space": "4096Mi"}),
        ({"swap_space": 0.5}, {"swap_space": "512Mi"}),
        ({"swap_space": 0}, {"swap_space": "0Mi"}),
        ({"swap_space": "2Gi"}, {"swap_space": "2Gi"}),
        ({"kv_cache_memory_bytes": 2**31}, {"kv_cache_memory": "2147483648"}),
        ({"kv_cache_memory_bytes": "2G"}, {"kv_cache_memory": "2147483648"}),
        ({"dtype": "half"}, {"dtype": "float16"}),
        ({"dtype": torch.bfloat16}, {"dtype": "bfloat16"}),
        ({"max_model_len": "16k"}, {"max_model_len": 16_000}),
        ({"max_model_len": -1, "max_num_seqs": 8, "gpu_memory_utilization": 1.0},
         {"max_num_seqs": 8, "gpu_memory_utilization": 1.0}),
        ({"disable_log_stats": False, "trust_remote_code": True, "enable_prefix_caching": False},
         {"log_stats": True, "trust_remote_code": True, "enable_prefix_caching": False}),
        ({"disable_log_stats": True}, {"log_stats": False}),
        ({"load_format": "safetensors", "kv_cache_dtype": "fp8_e4m3"}, {"kv_cache_dtype": "fp8"}),
        ({"hf_overrides": OVERRIDES}, {"reranker": "qwen3"}),
        ({"override_generation_config": {"top_k": 1}}, {"override_generation_config": '{"top_k": 1}'}),
        ({"max_num_seqs": None, "quantization": None, "hf_overrides": {}, "revision": None, "speculative_config": None},
         {}),
        ({"enable_lora": False, "enable_sleep_mode": False, "limit_mm_per_prompt": {}, "rope_scaling": {}}, {}),
        ({"maxNumSeqs": 4}, {"max_num_seqs": 4}),
    ],
)  # fmt: skip
def test_vllms_spelling_becomes_ours(given, made):
    assert engine_config("m", **given) == EngineConfig(model="m", **made)


@pytest.mark.parametrize(
    "given",
    [
        {"enforce_eager": True},
        {"enforce_eager": False},
        {"tokenizer_mode": "auto"},
        {"cpu_offload_gb": 0},
        {"cpu_offload_gb": 0.0},
        {"data_parallel_size": 1},
        {"compilation_config": {"level": 3}},
        {"distributed_executor_backend": "mp"},
        {"served_model_name": ["a", "b"]},
    ],
)
def test_what_needs_nothing_is_said(given, caplog):
    caplog.set_level(logging.INFO)
    assert engine_config("m", **given) == EngineConfig(model="m")
    [(name, value)] = given.items()
    assert f"{name}={value!r} needs nothing here: " in caplog.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"enable_lora": True}, "enable_lora: is not taken here; adapters are not supported"),
        ({"num_gpu_blocks_override": 9}, "num_gpu_blocks_override: is not taken here; set kv_cache_memory"),
        ({"tokenizer_mode": "slow"}, "tokenizer_mode: must be one of auto, hf, fast, got 'slow'; the tokenizers"),
        ({"cpu_offload_gb": 4.5}, "cpu_offload_gb: must be 0, got '4.5'; weights stay on the GPU"),
        (
            {"enable_chunked_prefill": False},
            "enable_chunked_prefill: cannot be turned off here; long prompts run in chunks of max_num_batched_tokens",
        ),
        ({"hf_overrides": {"rope_theta": 1}}, 'hf_overrides: must be {"architectures": ["Qwen3ForSequence'),
        ({"port": 1}, "port: unknown field"),
        ({"enable_log_requests": True}, "enable_log_requests: unknown field"),
        ({"frobnicate": True}, "frobnicate: unknown field"),
        ({"max_num_seqs": 0}, "max_num_seqs: input should be greater than or equal to 1, got 0"),
        ({"swap_space": -1}, "swap_space: input should be a valid string, got -1"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_what_to_do(given, words):
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refusal:
        engine_config("m", **given)
    assert str(refusal.value).startswith(words)
