"""The planner against a GPU, on Llama-3.1-8B's shape with random weights: the blocks of the KV cache, and the temporary
tensors of the largest step."""

import gc
import json
import subprocess

import pytest
import torch
from small_models import run

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.models.served import as_served
from octavo_runtime.planning.memory import plan_memory
from octavo_runtime.planning.reserves import activation_bytes, reserve_bytes
from octavo_runtime.protocol.sampling_params import SamplingParams

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "eos_token_id": 128001,
}

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("options", "quantization"),
    [
        ({}, None),
        ({"gpu_memory_utilization": 0.6, "max_num_batched_tokens": 2048}, None),
        ({}, AWQ),
        ({"quantization": "fp8"}, None),
    ],
)
def test_planned_and_measured_blocks_agree_within_a_percent(tmp_path, options, quantization):
    described = LLAMA_8B if quantization is None else {**LLAMA_8B, "quantization_config": quantization}
    (tmp_path / "config.json").write_text(json.dumps(described))
    config = EngineConfig.model_validate({"model": str(tmp_path), "device": "cuda", "load_format": "dummy", **options})
    total = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # Of what earlier tests left, the planner knows nothing.
    gc.collect()
    torch.cuda.empty_cache()
    planned = plan_memory(spec_from_config(described), config, int(total.split()[0]) * 2**20)
    measured = Engine(config).ready.num_blocks
    print(f"planned {planned.num_blocks} blocks, measured {measured} ({planned.num_blocks / measured - 1:+.2%})")
    assert planned.num_blocks == pytest.approx(measured, rel=0.01)


@pytest.mark.gpu
@pytest.mark.parametrize(("options", "quantization"), [({}, AWQ), ({"quantization": "fp8"}, None)], ids=["int4", "fp8"])
def test_the_largest_step_and_all_graphs_stay_within_what_is_planned(tmp_path, options, quantization):
    described = {**LLAMA_8B, "num_hidden_layers": 2}
    described |= {} if quantization is None else {"quantization_config": quantization}
    (tmp_path / "config.json").write_text(json.dumps(described))
    asked = {"model": str(tmp_path), "device": "cuda", "load_format": "dummy", "kv_cache_memory": "2Gi"}
    config = EngineConfig.model_validate({**asked, **options})
    gc.collect()
    torch.cuda.empty_cache()
    engine = Engine(config)
    torch.cuda.empty_cache()  # of what making random weights took
    held = torch.cuda.memory_allocated()
    while engine.prepare_some():  # captures graphs
        pass
    torch.cuda.reset_peak_memory_stats()
    run(engine, [list(range(1000, 9000))], SamplingParams(temperature=0.0, max_tokens=2, ignore_eos=True))
    at_once, kept = torch.cuda.max_memory_allocated() - held, torch.cuda.memory_reserved() - held
    spec = as_served(spec_from_config(described), config)
    of_step, reserves = activation_bytes(spec, 8192, config.max_num_seqs, 2), reserve_bytes(spec, config)
    print(f"MiB: a step {at_once >> 20} of {of_step >> 20} planned, with graphs {kept >> 20} of {reserves >> 20}")
    assert at_once < of_step
    assert kept < reserves
