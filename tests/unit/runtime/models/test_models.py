"""Small random models of the supported families, from safetensors, against transformers in float32."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SeedOssConfig,
    SmolLM3Config,
)

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.loading.config_json import spec_from_folder
from octavo_runtime.models.loading.files import locate
from octavo_runtime.models.loading.safetensors_folder import SafetensorsFolder
from octavo_runtime.models.loading.weights import build_decoder, tensor_shapes
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.protocol.sampling_params import SamplingParams

SMALL = {
    "vocab_size": 300,
    "hidden_size": 96,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 299,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = {
    "llama": LlamaConfig(**SMALL, tie_word_embeddings=False),
    "llama, tied embeddings": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "llama, all heads their own": LlamaConfig(**{**SMALL, "num_key_value_heads": 6}),
    "llama, five heads of 80": LlamaConfig(
        **{**SMALL, "hidden_size": 160, "num_attention_heads": 5, "num_key_value_heads": 1}, head_dim=80
    ),
    "llama, biases": LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
    "llama 3 rope": LlamaConfig(**SMALL, rope_parameters=LLAMA3_ROPE),
    "llama, linear rope": LlamaConfig(
        **SMALL, rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}
    ),
    "llama, yarn": LlamaConfig(**SMALL, rope_parameters=YARN_ROPE),
    "llama, yarn with scales": LlamaConfig(
        **SMALL, rope_parameters={**YARN_ROPE, "mscale": 1.2, "mscale_all_dim": 0.7, "truncate": False}
    ),
    "mistral": MistralConfig(**SMALL, sliding_window=None, head_dim=16),
    "qwen 2": Qwen2Config(**SMALL),
    "qwen 2, tied embeddings": Qwen2Config(**SMALL, tie_word_embeddings=True),
    "qwen 3": Qwen3Config(**SMALL, head_dim=32),
    "qwen 3, biases": Qwen3Config(**SMALL, head_dim=80, attention_bias=True),
    "seed-oss": SeedOssConfig(**SMALL, head_dim=32),
    "seed-oss, output bias": SeedOssConfig(**SMALL, head_dim=32, attention_bias=False, attention_out_bias=True),
    "smollm 3": SmolLM3Config(**{**SMALL, "num_hidden_layers": 5}, pad_token_id=0),
    "smollm 3, chosen layers": SmolLM3Config(**SMALL, no_rope_layers=[0, 1, 0], pad_token_id=0),
    "granite": GraniteConfig(
        **SMALL, embedding_multiplier=6.0, attention_multiplier=0.1, residual_multiplier=0.22, logits_scaling=4.0
    ),
    "granite, biases": GraniteConfig(
        **SMALL, attention_bias=True, mlp_bias=True, attention_multiplier=0.25, tie_word_embeddings=True
    ),
}


def save(config: PretrainedConfig, folder: Path) -> torch.nn.Module:
    """A random model on disk and in memory; biases and norms are random too, so that none can be left out unseen."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers(family, tmp_path):
    model = save(FAMILIES[family], tmp_path)
    engine = Engine(EngineConfig(model=str(tmp_path), device="cpu", dtype="float32", kv_cache_memory="16Mi"))
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(0, 299, (length,), generator=generator).tolist() for length in (1, 5, 16, 17, 90, 200)]
    answers: dict[str, list[int]] = {str(index): [] for index in range(len(prompts))}
    for index, prompt in enumerate(prompts):
        engine.add_request(str(index), prompt, SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True))
    while engine.has_work:
        for output in engine.step():
            answers[output.request_id] += output.token_ids
    for prompt, answer in zip(prompts, answers.values(), strict=True):
        whole = torch.tensor([prompt + answer])
        with torch.inference_mode():
            scores = model(whole).logits[0, len(prompt) - 1 : -1]
        assert scores.argmax(-1).tolist() == answer


def test_eos_ends_an_answer_and_ignore_eos_does_not(tmp_path):
    save(FAMILIES["llama"], tmp_path)
    engine = Engine(EngineConfig(model=str(tmp_path), device="cpu", dtype="float32", kv_cache_memory="16Mi"))

    def run(params: SamplingParams) -> tuple[list[int], str | None]:
        engine.add_request("r", [1, 2, 3], params)
        outputs = []
        while engine.has_work:
            outputs += engine.step()
        return [token for output in outputs for token in output.token_ids], outputs[-1].finish_reason

    tokens, reason = run(SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True))
    assert (len(tokens), reason) == (20, "length")
    stop_at = tokens[7]
    tokens_again, reason = run(SamplingParams(temperature=0.0, stop_token_ids=(stop_at,), ignore_eos=True))
    assert (tokens_again, reason) == (tokens[: tokens.index(stop_at) + 1], "stop")
    _, reason = run(SamplingParams(temperature=0.0, ignore_eos=True))
    assert reason == "length"
    assert engine.load.blocks_used == 0


def test_missing_and_misshapen_tensors_are_named(tmp_path):
    save(FAMILIES["llama"], tmp_path)
    folder = SafetensorsFolder(locate(str(tmp_path)).folder)
    with pytest.raises(UnsupportedModel, match=r"no tensor model\.absent\.weight"):
        folder.read("model.absent.weight", (1,))
    with pytest.raises(UnsupportedModel, match=r"model.norm.weight: shape must be \(95,\), got \(96,\)"):
        folder.read("model.norm.weight", (95,))
    assert spec_from_folder(tmp_path).eos_token_ids == (299,)


def test_dummy_weights_serve_a_shape_without_a_checkpoint(tmp_path):
    FAMILIES["llama"].architectures = ["LlamaForCausalLM"]
    FAMILIES["llama"].save_pretrained(tmp_path)
    engine = Engine(EngineConfig(model=str(tmp_path), device="cpu", load_format="dummy", kv_cache_memory="16Mi"))
    engine.add_request("r", [1, 2, 3], SamplingParams(max_tokens=5, ignore_eos=True))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    assert len(outputs) == 5


@pytest.mark.parametrize("family", ["llama, tied embeddings", "llama, biases"])
def test_the_tensors_that_are_checked_are_those_that_are_read(family, tmp_path):
    save(FAMILIES[family], tmp_path)
    spec, read = spec_from_folder(tmp_path), {}

    def note(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        read[name] = shape
        return torch.zeros(shape)

    build_decoder(spec, note, torch.device("cpu"), torch.float32)
    assert tensor_shapes(spec) == read
