"""GGUF files of each supported type, against the same weights in transformers."""

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from octavo_runtime.config import EngineConfig
from octavo_runtime.engine import Engine
from octavo_runtime.model.gguf_file import GGUFFile, gguf_name
from octavo_runtime.model.spec import UnsupportedModel
from octavo_runtime.quant.groups import Groups
from octavo_runtime.sampling_params import SamplingParams

CONFIG = LlamaConfig(
    vocab_size=160,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    eos_token_id=3,
)


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Query and key rows as llama.cpp's converter stores them: the halves of each head interleaved."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def write(path, model: LlamaForCausalLM, kind: gguf.GGMLQuantizationType, *, tied: bool = False) -> None:
    """Writes the model as GGUF, and rounds its own weights in memory to what the file holds."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_eos_token_id(3)
    heads = {".q_proj.": CONFIG.num_attention_heads, ".k_proj.": CONFIG.num_key_value_heads}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        kept = kind if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        packed = gguf.quantize(values, kept)
        rounded = gguf.dequantize(packed, kept)
        parameter.data = torch.from_numpy(np.array(rounded, dtype=np.float32))
        stored = next((permuted(rounded, count) for part, count in heads.items() if part in name), rounded)
        if not (tied and name == "lm_head.weight"):
            writer.add_tensor(gguf_name(name), gguf.quantize(stored, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def greedy(path, prompt: list[int]) -> list[int]:
    engine = Engine(EngineConfig(model=str(path), device="cpu", dtype="float32", kv_cache_memory="8Mi"))
    engine.add_request("r", prompt, SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True))
    tokens = []
    while engine.has_work:
        tokens += [token for output in engine.step() for token in output.token_ids]
    return tokens


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_tokens_equal_transformers_on_the_same_weights(kind, tmp_path):
    model = random_model()
    write(tmp_path / "model.gguf", model, gguf.GGMLQuantizationType[kind])
    prompt = [5, 9, 100, 159, 7, 0, 42]
    answer = greedy(tmp_path / "model.gguf", prompt)
    with torch.inference_mode():
        scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    assert scores.argmax(-1).tolist() == answer


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("name", ["mlp.down_proj", "self_attn.q_proj", "self_attn.k_proj"])
def test_tensors_in_groups_stay_so_and_mean_what_gguf_says(kind, name, tmp_path):
    model = random_model()
    write(tmp_path / "model.gguf", model, gguf.GGMLQuantizationType[kind])
    weight = dict(model.named_parameters())[f"model.layers.1.{name}.weight"].detach()  # as gguf's own code unpacks it
    stored = GGUFFile(tmp_path / "model.gguf").read(f"model.layers.1.{name}.weight", tuple(weight.shape))
    assert isinstance(stored, Groups)
    assert (stored.minimums is None) == (kind == "Q8_0")
    torch.testing.assert_close(stored.dequantize(), weight, rtol=0, atol=1e-7)


def test_a_file_without_an_output_head_ties_it_to_the_embedding(tmp_path):
    write(tmp_path / "model.gguf", random_model(), gguf.GGMLQuantizationType.F32, tied=True)
    file = GGUFFile(tmp_path / "model.gguf")
    assert file.spec.tie_embeddings
    assert file.spec.eos_token_ids == (3,)
    assert file.spec.vocab_size == CONFIG.vocab_size  # from the embedding: the metadata does not name it
    assert len(greedy(tmp_path / "model.gguf", [1, 2])) == 16


def test_unsupported_types_and_shapes_are_named(tmp_path):
    write(tmp_path / "model.gguf", random_model(), gguf.GGMLQuantizationType.Q5_0)
    file = GGUFFile(tmp_path / "model.gguf")
    with pytest.raises(UnsupportedModel, match=r"token_embd\.weight: type must be one of F32, F16, .* got Q5_0"):
        file.read("model.embed_tokens.weight", (160, 64))
    with pytest.raises(UnsupportedModel, match=r"output_norm\.weight: shape must be \(65,\), got \(64,\)"):
        file.read("model.norm.weight", (65,))
