"""GGUF files of all families, as their converter writes them, against the same weights in transformers."""

import math

import gguf
import numpy as np
import pytest
import torch
from expert_models import EXPERT_FAMILIES
from family_models import FAMILIES, random
from gguf_families import write_converted
from latent_models import LATENT_FAMILIES
from small_models import cache_shape, in_groups, random_prompts
from transformers import GptOssConfig

from octavo_kernels.experts import PackedWeights
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.experts import Experts
from octavo_runtime.models.loading.checkpoint import load_model
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.step import Slice
from octavo_runtime.worker.batch import build_batch

CPU = torch.device("cpu")
BLOCK, BLOCKS = 8, 12
# What llama.cpp's files cannot say, and transformers' fields can.
_SAID = {
    "gemma 2": {"query_pre_attn_scalar": 32},
    "gemma 2, close caps": {"query_pre_attn_scalar": 80},
    "gemma 3": {"query_pre_attn_scalar": 32, "layer_types": ["sliding_attention"] * 3},
    "gemma 3, scaled rope": {"query_pre_attn_scalar": 256},
    "qwen 2 moe": {"decoder_sparse_step": 1},
    "qwen 3 moe": {"mlp_only_layers": []},
    "deepseek v3": {"rope_parameters": LATENT_FAMILIES["deepseek v3"].rope_parameters | {"mscale": 1.4}},
    "glm": {"head_dim": 16},
    "glm, no biases": {"head_dim": 16},
    "falcon, new, one norm": {"ffn_hidden_size": 384},
    "phi moe": {"router_jitter_noise": 0.01},
    "phi moe, longrope": {  # which is turned by one factor, that of the converter
        "rope_parameters": EXPERT_FAMILIES["phi moe, longrope"].rope_parameters
        | dict.fromkeys(("short_mscale", "long_mscale"), (1 + math.log(4) / math.log(256)) ** 0.5)
    },
    "minicpm 3": {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256, "v_head_dim": 16},
    "glm 4.7 flash": {"mlp_layer_types": ["dense", "sparse", "sparse"], "first_k_dense_replace": 1},
}
WRITTEN = (
    "llama", "llama, tied embeddings", "llama, biases", "llama, yarn", "mistral, window", "qwen 2", "qwen 3",
    "seed-oss", "smollm 3", "gemma 2", "gemma 2, close caps", "gemma 3", "gemma 3, scaled rope", "phi 3",
    "phi 3, window", "phi 3, longrope", "olmo 2", "glm 4", "ernie 4.5", "ernie 4.5, biases", "command r",
    "command r plus", "command r7b", "starcoder 2", "stablelm", "stablelm, side by side", "stablelm, 12b", "granite",
    "granite, biases", "mixtral", "mixtral, many experts in a window", "qwen 3 moe", "qwen 2 moe", "olmoe",
    "granite moe", "granite moe, shared", "glm 4.5", "glm 4.5, groups", "ernie 4.5 moe",
    "ernie 4.5 moe, every other layer", "hunyuan", "minimax m2", "gpt-oss", "gpt-oss, seven heads", "bloom",
    "phi moe", "phi moe, longrope",
    "deepseek v2", "deepseek v2 lite", "deepseek v3", "glm 4.7 flash", "youtu", "minicpm 3",
    "gpt neox", "gpt neox, in turn", "gpt 2", "falcon", "falcon, new", "falcon, new, one norm", "nemotron",
    "nemotron, biases", "glm", "glm, no biases",
)  # fmt: skip


def scores(path, prompt: list[int]) -> torch.Tensor:
    """Of all positions, the prompt in two steps."""
    ours = load_model(EngineConfig(model=str(path), max_model_len=256), locate(str(path)), CPU, torch.float32)
    ours.reach(BLOCK * BLOCKS)
    cache = torch.zeros(cache_shape(ours.spec, BLOCKS, BLOCK))
    tables = in_groups(ours.spec, np.arange(BLOCKS, dtype=np.int32)[None], BLOCKS)
    parts = [Slice(0, 0, prompt[:50]), Slice(0, 50, prompt[50:])]
    return torch.cat([ours.logits(ours.forward(build_batch([part], tables, BLOCK, CPU), cache)) for part in parts])


def assert_equal_scores(model, path) -> None:
    [prompt] = random_prompts(BLOCK * BLOCKS - 1)
    expected = model(torch.tensor([prompt])).logits[0]
    torch.testing.assert_close(scores(path, prompt), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("family", WRITTEN)
@torch.inference_mode()
def test_scores_equal_transformers(family, tmp_path):
    model = random(FAMILIES[family], spread=0.2, **_SAID.get(family, {}))
    write_converted(tmp_path / "model.gguf", model)
    assert_equal_scores(model, tmp_path / "model.gguf")


@torch.inference_mode()
def test_latent_attention_as_older_files_have_it(tmp_path):
    model = random(FAMILIES["deepseek v2"], spread=0.2)
    write_converted(tmp_path / "model.gguf", model, splits_expansion=False)
    assert_equal_scores(model, tmp_path / "model.gguf")


@torch.inference_mode()
def test_internlm_2_is_written_as_a_llama(tmp_path):
    """Its queries, keys and values, which its checkpoint holds by groups, stand apart in the file."""
    model = random(FAMILIES["llama, biases"], spread=0.2)
    write_converted(tmp_path / "model.gguf", model, architecture="internlm2")
    assert_equal_scores(model, tmp_path / "model.gguf")


@torch.inference_mode()
def test_experts_in_mxfp4_stay_packed(tmp_path):
    config = GptOssConfig(
        vocab_size=300, hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, num_local_experts=4, num_experts_per_tok=2, sliding_window=16,
        max_position_embeddings=256, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    model = random(config, spread=0.2)
    path = tmp_path / "model.gguf"
    write_converted(path, model, gguf.GGMLQuantizationType.MXFP4)
    ours = load_model(EngineConfig(model=str(path)), locate(str(path)), CPU, torch.float32)
    for layer in ours.stack.layers:
        assert isinstance(layer.mlp, Experts)
        assert isinstance(layer.mlp.gate_up, PackedWeights)
    assert_equal_scores(model, path)
