"""The planner's blocks against those that the engine measures on a GPU: Llama-3.1-8B's shape with random weights."""

import gc
import json
import subprocess

import pytest
import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.planning.memory import plan_memory

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


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"gpu_memory_utilization": 0.6, "max_num_batched_tokens": 2048}])
def test_planned_and_measured_blocks_agree_within_a_percent(tmp_path, options):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
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
    planned = plan_memory(spec_from_config(LLAMA_8B), config, int(total.split()[0]) * 2**20)
    measured = Engine(config).ready.num_blocks
    print(f"planned {planned.num_blocks} blocks, measured {measured} ({planned.num_blocks / measured - 1:+.2%})")
    assert planned.num_blocks == pytest.approx(measured, rel=0.01)
